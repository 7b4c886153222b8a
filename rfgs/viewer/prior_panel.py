"""What the prior sees: the views being optimized beside the prior's own one-step estimate of each."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import viser

if TYPE_CHECKING:
    from torch import Tensor

Decode = Callable[["Tensor"], "Tensor"]

TILE = 192
"""Width and height of each picture in the panel, pixels."""
GAP = 6
SMALL = 128
"""Pixels: up to this size of views several are decoded at a time, above it one."""


@dataclass(frozen=True)
class Sight:
    """The first views of one step, as the panel needs them."""

    index: int
    views: Tensor
    """[V, 3, H, W] in [0, 1]."""
    x0_hat: Tensor
    """Latents of the prior's one-step estimate of each, [V, c, h, w]."""
    t: Tensor
    """Noise fractions, [V]."""


def sight_of(index: int, views: Tensor, x0_hat: Tensor, t: Tensor) -> Sight:
    """Copies what the panel needs of a step, so that the rest of it can be freed."""
    count = 2 if views.shape[-1] <= SMALL else 1
    return Sight(index, *(tensor[:count].detach().clone() for tensor in (views, x0_hat, t)))


class PriorPanel:
    """Made inside the container that will hold it."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self._live = gui.add_checkbox(
            "Show what the model sees", False, hint="Takes a little of the run's time, while somebody watches"
        )
        self._caption = gui.add_html("")
        self._picture = gui.add_image(np.zeros((TILE, 2 * TILE + GAP, 3), np.uint8), visible=False)

    @property
    def wanted(self) -> bool:
        """Whether pictures are to be made."""
        return self._live.value

    def show(self, sight: Sight, decode: Decode) -> None:
        """Decodes the estimates and shows them. This takes a model, and some milliseconds to seconds."""
        import torch

        with torch.no_grad():
            estimates = decode(sight.x0_hat)
        self._picture.image = side_by_side(sight.views, estimates)
        self._picture.visible = True
        noise = ", ".join(f"{value:.2f}" for value in sight.t.flatten().tolist())
        self._caption.content = (
            '<div style="padding:0 0.9em 0.4em;font-size:0.8em;opacity:0.7">'
            f"Step {sight.index}. Left: a view of the object. Right: what the model makes of it under noise "
            f"({html.escape(noise)}; 1 is nothing else). It leads the object there.</div>"
        )


def side_by_side(left: Tensor, right: Tensor) -> np.ndarray:
    """Rows of pictures in two columns, uint8 [V * TILE + gaps, 2 * TILE + gap, 3].

    Args:
        left, right: [V, 3, *, *] in [0, 1], of any sizes.
    """
    from torch.nn.functional import interpolate

    count = len(left)
    sheet = np.full((count * (TILE + GAP) - GAP, 2 * TILE + GAP, 3), 32, np.uint8)
    for column, images in enumerate((left, right)):
        tiles = interpolate(images.float().cpu().clamp(0, 1), size=(TILE, TILE), mode="nearest")
        for row, tile in enumerate((tiles * 255).round().byte().permute(0, 2, 3, 1).numpy()):
            y, x = row * (TILE + GAP), column * (TILE + GAP)
            sheet[y : y + TILE, x : x + TILE] = tile
    return sheet
