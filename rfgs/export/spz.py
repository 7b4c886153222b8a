"""Splats as SPZ, Niantic's open format: 20 bytes each before gzip. Version 3 is written, 2 and 3 are read.

https://github.com/nianticlabs/spz
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from rfgs.errors import UserError
from rfgs.export.axes import WORLD_TO_Y_UP, rotate
from rfgs.export.quantize import bytes_of, from_smallest_three, logits_of, smallest_three, spatial_order
from rfgs.export.unpacking import check_size
from rfgs.export.writing import atomic, finite_splats
from rfgs.splats import Splats

HEADER = struct.Struct("<IIIBBBB")
"""Magic number, version, count, degree of the harmonics, fractional bits of positions, flags, nothing."""
MAGIC = 0x5053474E
COLOR_SCALE = 0.15
"""Of the constant coefficients about one half: wider than colors, which the higher ones may bring back into [0, 1]."""
LOWEST_SCALE, SCALE_STEPS = -10.0, 16
FIXED = 2**23 - 1
"""Positions are signed integers of 24 bits."""


def write_spz(splats: Splats, path: str | Path) -> None:
    """Writes version 3, which more viewers read than its successor; Y is up and the front faces +Z, as the format wants it.

    Positions keep steps of 1/4096 of a unit, finer ones where the scene is tiny; logarithms of scales 1/16 (6 percent) from
    -10 to 5.9, colors and opacities 8 bits, rotations 10 bits a component, the harmonics 8 bits of [-1, 1].

    Raises:
        UserError: a folder that cannot be written to, no finite splat, or one more than 8 million units away.
    """
    splats = rotate(finite_splats(splats, path), WORLD_TO_Y_UP)
    splats = splats.select(torch.from_numpy(spatial_order(splats.means.numpy())))
    means = splats.means.numpy().astype(np.float64)
    farthest, usual = float(np.abs(means).max()), float(np.quantile(np.abs(means), 0.98))
    if farthest > FIXED:
        raise UserError(f"{path}: a splat is {farthest:g} units away and SPZ ends at {FIXED}; write a .ply")
    bits = 12 if usual >= 0.5 else math.ceil(math.log2(2048 / max(usual, 2.0**-10)))
    bits = min(bits, math.floor(math.log2(FIXED / max(farthest, 1e-9))), 22)
    positions = np.rint(means * 2.0**bits).astype("<i4")
    largest, others = smallest_three(splats.quats[:, [1, 2, 3, 0]].numpy())
    magnitude = np.floor(511 * 2**0.5 * np.abs(others) + 0.5).astype(np.uint32)
    fields = np.minimum(magnitude, 511) | ((others < 0).astype(np.uint32) << 9)
    rotations = (largest.astype(np.uint32) << 30) | (fields[:, 0] << 20) | (fields[:, 1] << 10) | fields[:, 2]
    parts = [
        np.ascontiguousarray(positions).view(np.uint8).reshape(-1, 3, 4)[:, :, :3],
        bytes_of(splats.opacities.numpy()),
        bytes_of(splats.sh0[:, 0].numpy() * COLOR_SCALE + 0.5),
        bytes_of((splats.log_scales.numpy() - LOWEST_SCALE) * SCALE_STEPS / 255),
        rotations.astype("<u4"),
    ]
    if splats.shN is not None:
        # All 8 bits: the 5 and 4 to which the format's own tool rounds cost 10 dB for a third of the bytes.
        parts.append(np.clip(np.rint(splats.shN.numpy() * 128) + 128, 0, 255).astype(np.uint8))
    header = HEADER.pack(MAGIC, 3, len(splats), splats.sh_degree, bits, 0, 0)
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(header + b"".join(part.tobytes() for part in parts), 9, mtime=0))


def read_spz(path: str | Path) -> Splats:
    """Reads splats from an SPZ file of version 2 or 3.

    Raises:
        UserError: there is no such file, it is damaged, or of another version.
    """
    path = Path(path)
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if packed[:4] == struct.pack("<I", MAGIC):
        raise UserError(f"{path} is SPZ of version 4 or later, which is not read; write version 3, or a .ply")
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        start = unzip.decompress(packed, HEADER.size)
        magic, version, count, degree, bits, _, _ = HEADER.unpack(start)
        if magic != MAGIC:
            raise ValueError("its first bytes are another format's")
        if version not in (2, 3):
            raise UserError(f"{path} is SPZ of version {version}; versions 2 and 3 are read")
        if degree > 3 or count == 0:
            raise ValueError(f"{count} splats with spherical harmonics of degree {degree}")
        coefficients = (degree + 1) ** 2 - 1
        widths = (9, 1, 3, 3, 3 if version == 2 else 4, 3 * coefficients)
        size = count * sum(widths)
        # No more than the header announces, whatever the file would unfold to.
        check_size(size, len(packed))
        content = unzip.decompress(unzip.unconsumed_tail, size)
        if len(content) < size:
            raise ValueError(f"it ends before its {count} splats")
    except (zlib.error, struct.error, ValueError) as error:
        raise UserError(f"{path} is damaged, or not an SPZ file: {error}") from error
    ends = np.cumsum([count * width for width in widths])
    positions, alphas, colors, scales, rotations, harmonics = (
        part.reshape(count, -1) for part in np.split(np.frombuffer(content, np.uint8), ends[:-1])
    )
    wide = np.zeros((count, 3, 4), np.uint8)
    wide[:, :, 1:] = positions.reshape(count, 3, 3)  # The high bytes, so that the sign comes along.
    means = (wide.view("<i4")[:, :, 0] >> 8) / 2.0**bits
    xyzw = _first_three(rotations) if version == 2 else _smallest_three(rotations)
    splats = Splats(
        means=torch.from_numpy(means.astype(np.float32)),
        quats=torch.from_numpy(xyzw[:, [3, 0, 1, 2]].astype(np.float32)),
        log_scales=torch.from_numpy(scales.astype(np.float32) / SCALE_STEPS + LOWEST_SCALE),
        logit_opacities=torch.from_numpy(logits_of(alphas[:, 0] / 255)),
        sh0=torch.from_numpy(((colors / 255 - 0.5) / COLOR_SCALE).astype(np.float32))[:, None],
        shN=None
        if degree == 0
        else torch.from_numpy((harmonics.astype(np.float32) - 128) / 128).reshape(count, coefficients, 3),
    )
    return rotate(finite_splats(splats, path), WORLD_TO_Y_UP.T)


def _smallest_three(rows: np.ndarray) -> np.ndarray:
    """Quaternions (x, y, z, w) [N, 4] of version 3: an index, then three of a sign and nine bits."""
    packed = np.ascontiguousarray(rows).view("<u4")[:, 0]
    fields = np.stack([(packed >> shift) & 1023 for shift in (20, 10, 0)], axis=1)
    others = (fields & 511) / 511 / 2**0.5 * np.where(fields >> 9, -1.0, 1.0)
    return from_smallest_three((packed >> 30).astype(np.int64), others)


def _first_three(rows: np.ndarray) -> np.ndarray:
    """Quaternions (x, y, z, w) [N, 4] of version 2: x, y and z in 8 bits, where w is positive."""
    xyz = rows / 127.5 - 1
    w = np.sqrt(np.clip(1 - np.square(xyz).sum(axis=1, keepdims=True), 0, 1))
    return np.concatenate([xyz, w], axis=1)
