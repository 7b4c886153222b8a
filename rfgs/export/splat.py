"""Splats as `.splat` files, 32 bytes each: the format of the first viewer for browsers.

https://github.com/antimatter15/splat
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rfgs.errors import UserError
from rfgs.export.axes import WORLD_TO_Y_DOWN, rotate
from rfgs.export.quantize import logits_of
from rfgs.export.writing import atomic, finite_splats
from rfgs.splats import SH_C0, Splats

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


def read_splat(path: str | Path) -> Splats:
    """Reads splats from a .splat file, whose axes are taken to be those of a PLY.

    Raises:
        UserError: there is no such file, or it is no row of 32 bytes after another.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not content or len(content) % ROW.itemsize:
        raise UserError(
            f"{path} is damaged, or not a .splat file: {len(content)} bytes are not {ROW.itemsize} for each"
        )
    rows = np.frombuffer(content, ROW)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_scales = np.log(rows["scale"])
    splats = Splats(
        means=torch.from_numpy(rows["position"].copy()),
        quats=torch.from_numpy((rows["rotation"].astype(np.float32) - 128) / 128),
        log_scales=torch.from_numpy(log_scales),
        logit_opacities=torch.from_numpy(logits_of(rows["rgba"][:, 3] / 255)),
        sh0=torch.from_numpy(((rows["rgba"][:, :3] / 255 - 0.5) / SH_C0).astype(np.float32))[:, None],
    )
    return rotate(finite_splats(splats, path), WORLD_TO_Y_DOWN.T)
