"""What the things of the tiny world are made of: signed-distance parts.

A part is `(shape, (x, y, z), sizes, color)`, in any unit, upright along +Z with its front facing +X; parts that are not
upright add an axis and an angle in degrees. The color MAIN is the thing's own color, with its finish; other names are TONES.
"""

from __future__ import annotations

from typing import Any

from rfgs.tinyworld.primitives import SPHERE

MAIN = "main"

TONES: dict[str, tuple[float, float, float]] = {
    "wood": (0.55, 0.34, 0.17),
    "dark wood": (0.38, 0.23, 0.12),
    "cream": (0.94, 0.87, 0.72),
    "biscuit": (0.82, 0.60, 0.32),
    "dark": (0.08, 0.08, 0.09),
    "pale": (0.92, 0.92, 0.90),
    "steel": (0.60, 0.62, 0.66),
    "glass": (0.55, 0.78, 0.90),
    "leaf": (0.13, 0.52, 0.16),
    "carrot": (0.95, 0.45, 0.06),
    "flame": (1.00, 0.72, 0.10),
    "clay": (0.72, 0.36, 0.22),
    "brick": (0.62, 0.22, 0.16),
    "coffee": (0.25, 0.14, 0.08),
    "gold": (0.93, 0.74, 0.22),
    "rose": (0.90, 0.45, 0.50),
}

Part = tuple[Any, ...]


def four(shape: int, x: float, y: float, z: float, sizes: tuple[float, ...], color: str) -> list[Part]:
    """The same part at the four corners (+-x, +-y, z)."""
    return [(shape, (sx * x, sy * y, z), sizes, color) for sx in (-1, 1) for sy in (-1, 1)]


def eyes(x: float, y: float, z: float, size: float) -> list[Part]:
    return [(SPHERE, (x, side * y, z), (size,), "dark") for side in (-1, 1)]
