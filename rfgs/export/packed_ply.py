"""PlayCanvas' compressed PLY, unpacked: 16 bytes a splat, quantized between the bounds of each 256 splats.

https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/ply/
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rfgs.splats import SH_C0

CHUNK = 256


def is_packed(elements: Mapping[str, np.ndarray]) -> bool:
    """Whether these elements of a PLY, structured arrays by name, are a compressed one's."""
    return {"chunk", "vertex"} <= set(elements) and "packed_position" in (
        elements["vertex"].dtype.names or ()
    )


def unpack(elements: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of an ordinary splat PLY, [N] float32 by property name.

    Raises:
        ValueError, IndexError, KeyError, TypeError: a column, or a chunk, that is missing or of another type.
    """
    chunks, vertices = elements["chunk"], elements["vertex"]
    chunk = np.arange(len(vertices)) // CHUNK
    columns: dict[str, np.ndarray] = {}

    def between(low: str, high: str, fraction: np.ndarray) -> np.ndarray:
        with np.errstate(
            all="ignore"
        ):  # Bounds that are not finite make splats that are not, and are dropped.
            return chunks[low][chunk] * (1 - fraction) + chunks[high][chunk] * fraction

    position, scale = (
        _bits(vertices["packed_position"], 11, 10, 11),
        _bits(vertices["packed_scale"], 11, 10, 11),
    )
    for index, axis in enumerate("xyz"):
        columns[axis] = between(f"min_{axis}", f"max_{axis}", position[index])
        columns[f"scale_{index}"] = between(f"min_scale_{axis}", f"max_scale_{axis}", scale[index])
    *rgb, alpha = _bits(vertices["packed_color"], 8, 8, 8, 8)
    for index, channel in enumerate("rgb"):
        # Early files have no bounds for colors: they span 0 to 1.
        if f"min_{channel}" in (chunks.dtype.names or ()):
            rgb[index] = between(f"min_{channel}", f"max_{channel}", rgb[index])
        columns[f"f_dc_{index}"] = (rgb[index] - 0.5) / SH_C0
    # Opaque and transparent have infinite logits; half of a quantization step away from them nothing is lost.
    alpha = np.clip(alpha, 0.5 / 255, 1 - 0.5 / 255)
    columns["opacity"] = np.log(alpha / (1 - alpha))
    columns |= _rotations(vertices["packed_rotation"])
    if "sh" in elements:
        if len(elements["sh"]) != len(vertices):
            raise ValueError(f"harmonics of {len(elements['sh'])} for {len(vertices)} of them")
        for name in elements["sh"].dtype.names or ():
            byte = elements["sh"][name].astype(np.float32)
            # Middles of 256 equal bins of [-4, 4], except for the outermost, which stand for the ends.
            columns[name] = np.where(byte == 0, -4, np.where(byte == 255, 4, (byte + 0.5) / 32 - 4))
    with np.errstate(all="ignore"):
        return {name: column.astype(np.float32) for name, column in columns.items()}


def _rotations(packed: np.ndarray) -> dict[str, np.ndarray]:
    """Quaternions by their three components other than the largest, whose index is in the two top bits."""
    largest = packed >> 30
    # Those three lie within 1 / sqrt(2) of zero.
    smaller = [(fraction - 0.5) * 2**0.5 for fraction in _bits(packed, 10, 10, 10)]
    quats = np.zeros((len(packed), 4), np.float32)
    for index in range(4):
        rows = largest == index
        others = [other for other in range(4) if other != index]
        for other, component in zip(others, smaller, strict=True):
            quats[rows, other] = component[rows]
        quats[rows, index] = np.sqrt(np.clip(1 - (quats[rows] ** 2).sum(axis=1), 0, 1))
    return {f"rot_{index}": quats[:, index] for index in range(4)}


def _bits(packed: np.ndarray, *widths: int) -> list[np.ndarray]:
    """Fields of these widths, the last in the lowest bits, as fractions of their largest value, in [0, 1]."""
    fields = []
    for width in reversed(widths):
        largest = (1 << width) - 1
        fields.append((packed & largest).astype(np.float32) / largest)
        packed = packed >> width
    return fields[::-1]
