"""Splats as SOG, PlayCanvas' format for the web, version 2: pictures of quantized values in one ZIP file.

https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/sog/
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rfgs
from rfgs.errors import UserError
from rfgs.export.axes import WORLD_TO_Y_DOWN, rotate
from rfgs.export.quantize import (
    bytes_of,
    from_smallest_three,
    logits_of,
    smallest_three,
    spatial_order,
    table_of,
)
from rfgs.export.unpacking import DAMAGE, check_size, member
from rfgs.export.writing import atomic, finite_splats
from rfgs.models.about import object_in
from rfgs.splats import Splats

LARGEST_PALETTE = 65_536
"""Sets of higher harmonics that the format can tell apart."""
SMALL_PALETTE = 4096
"""Of them, where there are more splats than that and similar ones have to share."""
ACROSS = 64
"""Sets side by side in their picture."""
FIRST_TAG = 252
"""Of the four values of an alpha channel that say which component of a quaternion is the largest."""


def write_sog(splats: Splats, path: str | Path, *, comments: Sequence[str] = ()) -> None:
    """Writes meta.json and lossless WebP pictures of one pixel a splat; the axes are those of a PLY.

    Positions keep 16 bits of the range of their logarithms, scales and colors one of 256 values that suit this scene,
    opacities 8 bits, rotations 8 bits a component. Up to 65,536 splats keep higher harmonics of their own; of more, similar
    ones share one of 4,096 sets.

    Args:
        comments: lines for meta.json, which other readers ignore.

    Raises:
        UserError: a folder that cannot be written to, or no finite splat.
    """
    splats = rotate(finite_splats(splats, path), WORLD_TO_Y_DOWN)
    splats = splats.select(torch.from_numpy(spatial_order(splats.means.numpy())))
    count = len(splats)
    means = splats.means.numpy().astype(np.float64)
    means = np.sign(means) * np.log1p(np.abs(means))
    low, high = means.min(axis=0), means.max(axis=0)
    steps = np.rint((means - low) / np.where(high > low, high - low, 1) * 65535).astype(np.uint16)
    largest, others = smallest_three(splats.quats.numpy())
    scales, scale_index = table_of(splats.log_scales.numpy())
    colors, color_index = table_of(splats.sh0[:, 0].numpy())
    pictures = {
        "means_l.webp": _square(steps & 255),
        "means_u.webp": _square(steps >> 8),
        "scales.webp": _square(scale_index),
        "quats.webp": _square(
            np.concatenate([bytes_of(others / 2**0.5 + 0.5), largest[:, None] + FIRST_TAG], 1)
        ),
        "sh0.webp": _square(np.concatenate([color_index, bytes_of(splats.opacities.numpy())[:, None]], 1)),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": f"rfgs {rfgs.__version__}", **({"comments": [*comments]} if comments else {})},
        "count": count,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": _few_digits(scales), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": _few_digits(colors), "files": ["sh0.webp"]},
    }
    if splats.shN is not None:
        palette, labels = _palette(splats.shN)
        table, index = table_of(palette)
        rows = -(-len(palette) // ACROSS)
        sheet = np.zeros((rows * ACROSS, *index.shape[1:]), np.uint8)
        sheet[: len(index)] = index
        pictures["shN_centroids.webp"] = sheet.reshape(rows, -1, 3)
        pictures["shN_labels.webp"] = _square(np.stack([labels & 255, labels >> 8, 0 * labels], axis=1))
        meta["shN"] = {
            "count": len(palette),
            "bands": splats.sh_degree,
            "codebook": _few_digits(table),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as bundle:
        # Without times of day, so that the same splats are the same file.
        bundle.writestr(
            zipfile.ZipInfo("meta.json"),
            json.dumps(meta, separators=(",", ":")),
            compress_type=zipfile.ZIP_DEFLATED,
        )
        for name, picture in pictures.items():
            bundle.writestr(zipfile.ZipInfo(name), _webp(picture))


def read_sog(path: str | Path) -> Splats:
    """Reads splats from a bundled SOG file of version 2.

    Raises:
        UserError: there is no such file, it is damaged, or of another version.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as bundle:
            meta = object_in(member(bundle, "meta.json"))
            if meta is None:
                raise ValueError("its meta.json cannot be read")
            if meta.get("version") != 2:
                raise UserError(f"{path} is SOG of version {meta.get('version', 1)}; version 2 is read")
            splats = _unpacked(meta, bundle)
    except FileNotFoundError as error:
        raise UserError(f"{path} cannot be read: no such file or directory") from error
    except (zipfile.BadZipFile, NotImplementedError, OSError, *DAMAGE) as error:
        raise UserError(f"{path} is damaged, or not a SOG file: {error}") from error
    return rotate(finite_splats(splats, path), WORLD_TO_Y_DOWN.T)


def _unpacked(meta: dict[str, Any], bundle: zipfile.ZipFile) -> Splats:
    count = int(meta["count"])

    def pixels(part: str, file: int = 0) -> np.ndarray:
        """The first `count` pixels of a picture, uint8 [N, 4]."""
        found = _pixels(member(bundle, meta[part]["files"][file])).reshape(-1, 4)
        if not 0 < count <= len(found):
            raise ValueError(f"{meta[part]['files'][file]} has {len(found)} pixels for {count} splats")
        return found[:count]

    low, high = np.float64(meta["means"]["mins"]), np.float64(meta["means"]["maxs"])
    steps = pixels("means")[:, :3] + 256.0 * pixels("means", 1)[:, :3]
    means = low + (high - low) * steps / 65535
    means = np.sign(means) * np.expm1(np.abs(means))
    quats, colors = pixels("quats"), pixels("sh0")
    if quats[:, 3].min() < FIRST_TAG:
        raise ValueError("a rotation has no largest component")
    turned = from_smallest_three(
        quats[:, 3].astype(np.int64) - FIRST_TAG, (quats[:, :3] / 255 - 0.5) * 2**0.5
    )
    table = np.float32(meta["sh0"]["codebook"])
    harmonics = None
    if "shN" in meta:
        coefficients = (int(meta["shN"]["bands"]) + 1) ** 2 - 1
        sheet = _pixels(member(bundle, meta["shN"]["files"][0]))[..., :3].reshape(-1, coefficients, 3)
        labels = pixels("shN", 1)[:, :2].astype(np.int64) @ [1, 256]
        harmonics = torch.from_numpy(np.float32(meta["shN"]["codebook"])[sheet[labels]])
    return Splats(
        means=torch.from_numpy(means.astype(np.float32)),
        quats=torch.from_numpy(turned),
        log_scales=torch.from_numpy(np.float32(meta["scales"]["codebook"])[pixels("scales")[:, :3]]),
        logit_opacities=torch.from_numpy(logits_of(colors[:, 3] / 255)),
        sh0=torch.from_numpy(table[colors[:, :3]])[:, None],
        shN=harmonics,
    )


def _palette(harmonics: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Sets of coefficients [P, K, 3], and the one of each splat, int64 [N]: its own, or the nearest of few (k-means)."""
    flat = harmonics.flatten(1)
    if len(flat) <= LARGEST_PALETTE:
        return harmonics.numpy(), np.arange(len(flat))
    chosen = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:SMALL_PALETTE]
    palette = flat[chosen].clone()
    for _ in range(4):
        labels = torch.cat([torch.cdist(part, palette).argmin(dim=1) for part in flat.split(8192)])
        counts = torch.bincount(labels, minlength=SMALL_PALETTE)[:, None]
        sums = torch.zeros_like(palette).index_add_(0, labels, flat)
        palette = torch.where(counts > 0, sums / counts.clamp(min=1), palette)
    return palette.reshape(-1, *harmonics.shape[1:]).numpy(), labels.numpy()


def _few_digits(table: np.ndarray) -> list[float]:
    """Of a small scene the tables are a third of the file, and three digits are as fine as their steps."""
    return [float(f"{value:.3g}") for value in table]


def _square(values: np.ndarray) -> np.ndarray:
    """Rows [N, C] as a nearly square picture [H, W, C], uint8, its last pixels empty."""
    width = 4 * math.ceil(math.sqrt(len(values)) / 4)
    height = -(-len(values) // width)
    picture = np.zeros((height * width, values.shape[1]), np.uint8)
    picture[: len(values)] = values
    return picture.reshape(height, width, -1)


def _webp(picture: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    # exact: colors below an alpha of zero are values too.
    Image.fromarray(picture).save(stream, "WEBP", lossless=True, exact=True, quality=100, method=4)
    return stream.getvalue()


def _pixels(content: bytes) -> np.ndarray:
    """A picture, uint8 [H, W, 4]."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        check_size(4 * picture.width * picture.height, len(content))
        return np.asarray(picture.convert("RGBA"))
