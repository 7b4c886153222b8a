"""Pictures of the world itself as the scorer sees assets: what assets are compared with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rfgs.tinyworld.asset_views import asset_views
from rfgs.tinyworld.scorer import BACKGROUND
from rfgs.tinyworld.scorer_net import SIZE
from rfgs.tinyworld.tracer import render_scene


def over_grey(rgba: np.ndarray | Tensor, grey: float | Tensor = BACKGROUND) -> Tensor:
    """Premultiplied pictures [B, H, W, 4] in [0, 1] over grey levels: [B, 3, H, W]."""
    picture = torch.as_tensor(rgba).permute(0, 3, 1, 2)
    return picture[:, :3] + (1 - picture[:, 3:]) * grey


def world_views(primitives: np.ndarray) -> Tensor:
    """The world's own render of primitives [P, 28] from all views of `asset_views`, over grey: [V, 3, 64, 64]."""
    cameras, _ = asset_views(SIZE)
    return over_grey(render_scene(primitives, cameras.viewmats.numpy(), cameras.Ks.numpy(), SIZE, SIZE))
