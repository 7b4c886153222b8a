"""Edges: whether what is sharp in one picture is as sharp in the other, so that neither blur nor frayed detail passes.

Silhouettes and squared errors like the mean of several sharp pictures better than any of them, if none is exactly right. This
figure does not. A pixel's steepness is the root of the squared differences of its neighbors (over two pixels, across and down,
summed over the channels). Where it is above STEEP there is an edge; the other picture has that edge if somewhere within REACH
pixels it is at least half as steep. Of the edges of both, the share that the other has: the harmonic mean of two shares (F1).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STEEP = 0.1
"""Colors a pixel, of channels in [0, 1]."""
REACH = 4
"""Pixels, 3 % of a picture of 128: what is misplaced by more is for the other figures to see, and this one sees it too."""
AS_STEEP = 0.5


def shared_edges(pictures: np.ndarray, others: np.ndarray) -> float:
    """The share of edges that both sets of pictures [V, H, W, 3] in [0, 1] have, in [0, 1]; 1 where neither has any.

    All edges of all views count alike. It is symmetric.
    """
    first, second = steepness(pictures), steepness(others)
    there, right = _share(second, first), _share(first, second)
    if there is None and right is None:
        return 1.0
    if not there or not right:
        return 0.0
    return 2 * there * right / (there + right)


def steepness(pictures: np.ndarray) -> Tensor:
    """How fast colors change, a pixel, [V, H - 2, W - 2]; the outermost pixels have none."""
    rgb = torch.from_numpy(np.ascontiguousarray(pictures, dtype=np.float32))
    across = (rgb[:, 1:-1, 2:] - rgb[:, 1:-1, :-2]) / 2
    down = (rgb[:, 2:, 1:-1] - rgb[:, :-2, 1:-1]) / 2
    return (across.square() + down.square()).sum(dim=-1).sqrt()


def _share(wanted: Tensor, given: Tensor) -> float | None:
    """Of the edges in `wanted`, the share that `given` has; None where there are no edges."""
    edges = wanted > STEEP
    if not edges.any():
        return None
    near = torch.nn.functional.max_pool2d(given[:, None], 2 * REACH + 1, stride=1, padding=REACH)[:, 0]
    return float((near[edges] >= AS_STEEP * wanted[edges]).double().mean())
