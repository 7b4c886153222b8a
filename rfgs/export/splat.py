"""Splats as `.splat` files, 32 bytes each: the format of the first viewer for browsers.

https://github.com/antimatter15/splat
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rfgs.export.axes import WORLD_TO_Y_DOWN, rotate
from rfgs.export.writing import atomic, finite_splats
from rfgs.splats import Splats

ROW = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])


def write_splat(splats: Splats, path: str | Path) -> None:
    """Writes the most important splats first, so that a browser can show the file while it loads.

    The format has no view-dependent color: spherical harmonics above degree 0 are left out. The axes are
    those of a PLY.

    Raises:
        UserError: a folder that cannot be written to, or no finite splat.
    """
    splats = rotate(finite_splats(splats, path), WORLD_TO_Y_DOWN)
    rgba = np.concatenate([splats.colors.numpy(), splats.opacities[:, None].numpy()], axis=1)
    rows = np.empty(len(splats), ROW)
    rows["position"] = splats.means.numpy()
    rows["scale"] = splats.scales.numpy()
    rows["rgba"] = np.clip(np.rint(rgba * 255), 0, 255)
    rows["rotation"] = np.clip(np.rint(splats.quats.numpy() * 128 + 128), 0, 255)
    importance = splats.log_scales.sum(dim=1).exp() * splats.opacities
    with atomic(path) as temporary:
        temporary.write_bytes(rows[importance.argsort(descending=True, stable=True).numpy()].tobytes())
