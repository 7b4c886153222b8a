"""The things of the tiny world: each kind is a handful of signed-distance parts, with the look that people expect of it.

A part is `(shape, (x, y, z), sizes, color)`, in any unit, upright along +Z with its front facing +X; parts that are not
upright add an axis and an angle in degrees. The color MAIN is the thing's own color, with its finish; other names are TONES.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rfgs.tinyworld.tracer import (
    BOX,
    CONE,
    CYLINDER,
    DOME,
    ELLIPSOID,
    FRUSTUM,
    PRISM,
    SPHERE,
    TORUS,
)

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


def _four(shape: int, x: float, y: float, z: float, sizes: tuple[float, ...], color: str) -> list[Part]:
    """The same part at the four corners (+-x, +-y, z)."""
    return [(shape, (sx * x, sy * y, z), sizes, color) for sx in (-1, 1) for sy in (-1, 1)]


def _eyes(x: float, y: float, z: float, size: float) -> list[Part]:
    return [(SPHERE, (x, side * y, z), (size,), "dark") for side in (-1, 1)]


KINDS: dict[str, list[Part]] = {
    "cube": [(BOX, (0, 0, 0), (0.70, 0.70, 0.70, 0.06), MAIN)],
    "sphere": [(SPHERE, (0, 0, 0), (0.95,), MAIN)],
    "cylinder": [(CYLINDER, (0, 0, 0), (0.68, 0.85, 0.05), MAIN)],
    "cone": [(CONE, (0, 0, 0), (0.85, 0.95, 0.04), MAIN)],
    "torus": [(TORUS, (0, 0, 0), (0.72, 0.27), MAIN)],
    "mushroom": [
        (FRUSTUM, (0, 0, 0.55), (0.36, 0.26, 0.55, 0.05), "cream"),
        (DOME, (0, 0, 0.95), (1.0, 1.0, 0.85), MAIN),
    ],
    "snowman": [
        (SPHERE, (0, 0, 0.62), (0.66,), MAIN),
        (SPHERE, (0, 0, 1.50), (0.48,), MAIN),
        (SPHERE, (0, 0, 2.16), (0.34,), MAIN),
        (CONE, (0.46, 0, 2.16), (0.09, 0.20, 0.01), "carrot", "y", 90),
        *_eyes(0.29, 0.13, 2.27, 0.055),
        (CYLINDER, (0, 0, 2.44), (0.40, 0.03, 0.01), "dark"),
        (CYLINDER, (0, 0, 2.62), (0.25, 0.18, 0.02), "dark"),
    ],
    "traffic cone": [
        (BOX, (0, 0, 0.07), (0.72, 0.72, 0.07, 0.03), MAIN),
        (FRUSTUM, (0, 0, 0.40), (0.52, 0.40, 0.27, 0.01), MAIN),
        (FRUSTUM, (0, 0, 0.85), (0.40, 0.27, 0.20, 0.01), "pale"),
        (FRUSTUM, (0, 0, 1.33), (0.27, 0.11, 0.29, 0.02), MAIN),
    ],
    "house": [
        (BOX, (0, 0, 0.50), (0.70, 0.72, 0.50, 0.01), MAIN),
        (PRISM, (0, 0, 1.00), (0.80, 0.88, 0.72), "brick"),
        (BOX, (0.70, 0, 0.32), (0.03, 0.17, 0.32, 0.01), "dark wood"),
        (BOX, (0.70, 0.45, 0.58), (0.03, 0.14, 0.14, 0.01), "glass"),
        (BOX, (0.70, -0.45, 0.58), (0.03, 0.14, 0.14, 0.01), "glass"),
        (BOX, (-0.35, 0.45, 1.50), (0.12, 0.12, 0.34, 0.01), "brick"),
    ],
    "tree": [
        (FRUSTUM, (0, 0, 0.55), (0.22, 0.14, 0.55, 0.02), "wood"),
        (SPHERE, (0, 0, 1.50), (0.66,), MAIN),
        (SPHERE, (0.22, 0.38, 1.25), (0.44,), MAIN),
        (SPHERE, (-0.10, -0.42, 1.28), (0.44,), MAIN),
    ],
    "cactus": [
        (FRUSTUM, (0, 0, 0.32), (0.38, 0.52, 0.32, 0.02), "clay"),
        (CYLINDER, (0, 0, 1.25), (0.27, 0.85, 0.26), MAIN),
        (CYLINDER, (0, 0.42, 1.10), (0.13, 0.26, 0.12), MAIN, "x", 90),
        (CYLINDER, (0, 0.60, 1.38), (0.13, 0.38, 0.12), MAIN),
        (CYLINDER, (0, -0.40, 1.35), (0.13, 0.24, 0.12), MAIN, "x", 90),
        (CYLINDER, (0, -0.56, 1.60), (0.13, 0.36, 0.12), MAIN),
    ],
    "mug": [
        (CYLINDER, (0, 0, 0.70), (0.62, 0.70, 0.05), MAIN),
        (CYLINDER, (0, 0, 1.385), (0.52, 0.025, 0.01), "coffee"),
        (TORUS, (0, 0.66, 0.70), (0.36, 0.13), MAIN, "y", 90),
    ],
    "table": [
        (BOX, (0, 0, 0.98), (0.80, 1.0, 0.08, 0.03), MAIN),
        *_four(CYLINDER, 0.62, 0.82, 0.46, (0.09, 0.48, 0.02), "wood"),
    ],
    "chair": [
        (BOX, (0, 0, 0.80), (0.55, 0.55, 0.08, 0.03), MAIN),
        (BOX, (-0.50, 0, 1.40), (0.07, 0.55, 0.58, 0.03), MAIN),
        *_four(CYLINDER, 0.45, 0.45, 0.38, (0.08, 0.40, 0.02), "wood"),
    ],
    "lamp": [
        (CYLINDER, (0, 0, 0.07), (0.46, 0.07, 0.03), "steel"),
        (CYLINDER, (0, 0, 0.62), (0.06, 0.56, 0.01), "steel"),
        (FRUSTUM, (0, 0, 1.45), (0.74, 0.40, 0.42, 0.02), MAIN),
    ],
    "rocket": [
        (FRUSTUM, (0, 0, 0.20), (0.36, 0.26, 0.16, 0.01), "steel"),
        (CYLINDER, (0, 0, 1.05), (0.44, 0.72, 0.03), MAIN),
        (CONE, (0, 0, 2.14), (0.44, 0.42, 0.02), "pale"),
        (SPHERE, (0.40, 0, 1.30), (0.17,), "glass"),
        (BOX, (0, 0.56, 0.50), (0.05, 0.30, 0.30, 0.02), "brick"),
        (BOX, (0, -0.56, 0.50), (0.05, 0.30, 0.30, 0.02), "brick"),
        (BOX, (-0.56, 0, 0.50), (0.30, 0.05, 0.30, 0.02), "brick"),
    ],
    "sailboat": [
        (ELLIPSOID, (0, 0, 0.30), (1.10, 0.44, 0.30), "wood"),
        (CYLINDER, (0, 0, 1.35), (0.05, 1.05, 0.01), "dark wood"),
        (PRISM, (-0.08, 0, 0.72), (0.055, 0.85, 1.50), MAIN, "z", 62),
    ],
    "car": [
        (BOX, (0, 0, 0.42), (1.10, 0.52, 0.24, 0.10), MAIN),
        (BOX, (-0.10, 0, 0.80), (0.58, 0.46, 0.24, 0.12), "glass"),
        (BOX, (-0.10, 0, 1.00), (0.50, 0.44, 0.06, 0.04), MAIN),
        *[
            (CYLINDER, (sx * 0.65, sy * 0.50, 0.25), (0.25, 0.09, 0.03), "dark", "x", 90)
            for sx in (-1, 1)
            for sy in (-1, 1)
        ],
        (SPHERE, (1.06, 0.32, 0.45), (0.10,), "flame"),
        (SPHERE, (1.06, -0.32, 0.45), (0.10,), "flame"),
    ],
    "ice cream": [
        (CONE, (0, 0, 0.80), (0.55, 0.80, 0.02), "biscuit", "x", 180),
        (SPHERE, (0, 0, 1.85), (0.62,), MAIN),
        (SPHERE, (0, 0, 2.46), (0.13,), "brick"),
    ],
    "donut": [
        (TORUS, (0, 0, 0.30), (0.68, 0.32), "biscuit"),
        (TORUS, (0, 0, 0.40), (0.68, 0.29), MAIN),
    ],
    "hat": [
        (CYLINDER, (0, 0, 0.05), (1.0, 0.05, 0.03), MAIN),
        (CYLINDER, (0, 0, 0.50), (0.56, 0.50, 0.08), MAIN),
        (CYLINDER, (0, 0, 0.20), (0.585, 0.10, 0.01), "dark"),
    ],
    "umbrella": [
        (DOME, (0, 0, 1.20), (1.05, 1.05, 0.62), MAIN),
        (CYLINDER, (0, 0, 0.75), (0.05, 0.75, 0.01), "wood"),
        (TORUS, (0, 0.15, 0.05), (0.15, 0.05), "wood", "y", 90),
    ],
    "duck": [
        (ELLIPSOID, (0, 0, 0.50), (0.86, 0.58, 0.50), MAIN),
        (CONE, (-0.82, 0, 0.72), (0.26, 0.30, 0.03), MAIN, "y", -60),
        (SPHERE, (0.48, 0, 1.18), (0.42,), MAIN),
        (ELLIPSOID, (0.96, 0, 1.10), (0.24, 0.17, 0.08), "carrot"),
        *_eyes(0.78, 0.22, 1.34, 0.075),
    ],
    "fish": [
        (ELLIPSOID, (0.05, 0, 0.55), (0.85, 0.36, 0.52), MAIN),
        (CONE, (-0.98, 0, 0.55), (0.48, 0.34, 0.03), MAIN, "y", 90),
        (PRISM, (0.0, 0, 0.98), (0.05, 0.34, 0.34), MAIN, "z", 90),
        *_eyes(0.58, 0.25, 0.68, 0.09),
    ],
    "teddy bear": [
        (ELLIPSOID, (0, 0, 0.72), (0.52, 0.58, 0.66), MAIN),
        (SPHERE, (0.03, 0, 1.65), (0.50,), MAIN),
        (SPHERE, (0, 0.42, 2.05), (0.19,), MAIN),
        (SPHERE, (0, -0.42, 2.05), (0.19,), MAIN),
        (ELLIPSOID, (0.46, 0, 1.55), (0.18, 0.21, 0.17), "cream"),
        (SPHERE, (0.64, 0, 1.62), (0.06,), "dark"),
        *_eyes(0.45, 0.19, 1.80, 0.06),
        (ELLIPSOID, (0.42, 0.38, 0.24), (0.46, 0.22, 0.22), MAIN),
        (ELLIPSOID, (0.42, -0.38, 0.24), (0.46, 0.22, 0.22), MAIN),
        (ELLIPSOID, (0.20, 0.60, 0.95), (0.40, 0.17, 0.17), MAIN),
        (ELLIPSOID, (0.20, -0.60, 0.95), (0.40, 0.17, 0.17), MAIN),
    ],
    "candle": [
        (CYLINDER, (0, 0, 0.06), (0.56, 0.06, 0.03), "steel"),
        (CYLINDER, (0, 0, 0.80), (0.32, 0.74, 0.03), MAIN),
        (ELLIPSOID, (0, 0, 1.82), (0.13, 0.13, 0.26), "flame"),
    ],
    "barrel": [
        (FRUSTUM, (0, 0, 0.42), (0.52, 0.68, 0.40, 0.01), MAIN),
        (FRUSTUM, (0, 0, 1.22), (0.68, 0.52, 0.40, 0.01), MAIN),
        (CYLINDER, (0, 0, 0.82), (0.71, 0.07, 0.01), "steel"),
        (CYLINDER, (0, 0, 0.20), (0.605, 0.06, 0.01), "steel"),
        (CYLINDER, (0, 0, 1.44), (0.605, 0.06, 0.01), "steel"),
    ],
    "crown": [
        (CYLINDER, (0, 0, 0.30), (0.80, 0.30, 0.02), MAIN),
        *[
            (CONE, (0.66 * np.cos(a), 0.66 * np.sin(a), 0.82), (0.24, 0.30, 0.01), MAIN)
            for a in np.arange(6) * np.pi / 3
        ],
        *[
            (SPHERE, (0.66 * np.cos(a), 0.66 * np.sin(a), 1.14), (0.09,), "gold")
            for a in np.arange(6) * np.pi / 3
        ],
    ],
    "robot": [
        (BOX, (0, 0, 1.00), (0.40, 0.55, 0.50, 0.04), MAIN),
        (BOX, (0, 0, 1.92), (0.34, 0.40, 0.30, 0.04), MAIN),
        (BOX, (0.34, 0, 1.96), (0.03, 0.28, 0.09, 0.01), "glass"),
        (CYLINDER, (0, 0, 1.55), (0.14, 0.10, 0.01), "steel"),
        (CYLINDER, (0, 0, 2.40), (0.04, 0.20, 0.01), "steel"),
        (SPHERE, (0, 0, 2.60), (0.10,), "brick"),
        *[
            (BOX, (0, side * 0.28, 0.25), (0.22, 0.17, 0.27, 0.03), "steel")
            for side in (-1, 1)
        ],
        *[
            (CYLINDER, (0, side * 0.70, 1.05), (0.11, 0.42, 0.10), "steel")
            for side in (-1, 1)
        ],
    ],
    "lollipop": [
        (CYLINDER, (0, 0, 0.70), (0.06, 0.72, 0.02), "pale"),
        (CYLINDER, (0, 0, 1.90), (0.66, 0.16, 0.10), MAIN, "y", 90),
    ],
    "present": [
        (BOX, (0, 0, 0.55), (0.68, 0.68, 0.55, 0.03), MAIN),
        (BOX, (0, 0, 0.555), (0.69, 0.13, 0.56, 0.02), "gold"),
        (BOX, (0, 0, 0.555), (0.13, 0.69, 0.56, 0.02), "gold"),
        (TORUS, (0, 0.22, 1.25), (0.18, 0.07), "gold", "y", 90),
        (TORUS, (0, -0.22, 1.25), (0.18, 0.07), "gold", "y", 90),
    ],
    "cat": [
        (ELLIPSOID, (0, 0, 0.62), (0.46, 0.42, 0.62), MAIN),
        (SPHERE, (0.22, 0, 1.44), (0.42,), MAIN),
        (CONE, (0.20, 0.26, 1.86), (0.17, 0.20, 0.02), MAIN),
        (CONE, (0.20, -0.26, 1.86), (0.17, 0.20, 0.02), MAIN),
        (CYLINDER, (0.38, 0.18, 0.32), (0.13, 0.32, 0.12), MAIN),
        (CYLINDER, (0.38, -0.18, 0.32), (0.13, 0.32, 0.12), MAIN),
        (ELLIPSOID, (0.02, 0.36, 0.26), (0.40, 0.18, 0.26), MAIN),
        (ELLIPSOID, (0.02, -0.36, 0.26), (0.40, 0.18, 0.26), MAIN),
        (ELLIPSOID, (-0.50, 0, 0.16), (0.30, 0.12, 0.12), MAIN),
        (CYLINDER, (-0.72, 0, 0.58), (0.11, 0.50, 0.10), MAIN),
        (ELLIPSOID, (0.55, 0, 1.34), (0.12, 0.18, 0.12), "pale"),
        (SPHERE, (0.66, 0, 1.41), (0.06,), "rose"),
        *_eyes(0.55, 0.17, 1.55, 0.075),
    ],
    "dog": [
        (ELLIPSOID, (-0.05, 0, 0.88), (0.76, 0.38, 0.38), MAIN),
        *_four(CYLINDER, 0.46, 0.22, 0.40, (0.14, 0.40, 0.12), MAIN),
        (CYLINDER, (0.58, 0, 1.20), (0.24, 0.36, 0.20), MAIN, "y", 30),
        (SPHERE, (0.74, 0, 1.52), (0.38,), MAIN),
        (ELLIPSOID, (1.10, 0, 1.42), (0.28, 0.19, 0.18), MAIN),
        (CYLINDER, (-0.86, 0, 1.22), (0.09, 0.34, 0.08), MAIN, "y", -30),
        (ELLIPSOID, (0.66, 0.38, 1.44), (0.15, 0.09, 0.32), "dark wood"),
        (ELLIPSOID, (0.66, -0.38, 1.44), (0.15, 0.09, 0.32), "dark wood"),
        (SPHERE, (1.36, 0, 1.48), (0.10,), "dark"),
        *_eyes(1.00, 0.18, 1.68, 0.075),
    ],
    "penguin": [
        (ELLIPSOID, (0, 0, 0.90), (0.52, 0.58, 0.90), MAIN),
        (SPHERE, (0.05, 0, 1.76), (0.40,), MAIN),
        (ELLIPSOID, (0, 0.58, 0.98), (0.18, 0.10, 0.50), MAIN, "x", 12),
        (ELLIPSOID, (0, -0.58, 0.98), (0.18, 0.10, 0.50), MAIN, "x", -12),
        (ELLIPSOID, (0.17, 0, 0.82), (0.42, 0.44, 0.70), "pale"),
        (CONE, (0.52, 0, 1.70), (0.12, 0.20, 0.02), "carrot", "y", 90),
        (SPHERE, (0.36, 0.16, 1.88), (0.09,), "pale"),
        (SPHERE, (0.36, -0.16, 1.88), (0.09,), "pale"),
        *_eyes(0.43, 0.17, 1.89, 0.05),
        (ELLIPSOID, (0.20, 0.24, 0.06), (0.30, 0.19, 0.08), "carrot"),
        (ELLIPSOID, (0.20, -0.24, 0.06), (0.30, 0.19, 0.08), "carrot"),
    ],
    "apple": [
        (TORUS, (0, 0, 0.80), (0.34, 0.58), MAIN),
        (CYLINDER, (0, 0, 1.44), (0.06, 0.24, 0.02), "dark wood"),
        (ELLIPSOID, (0, 0.26, 1.52), (0.14, 0.26, 0.06), "leaf", "x", 20),
    ],
    "pumpkin": [
        *[
            (ELLIPSOID, (0.46 * np.cos(a), 0.46 * np.sin(a), 0.62), (0.46, 0.46, 0.62), MAIN)
            for a in np.arange(8) * np.pi / 4
        ],
        (CYLINDER, (0, 0, 1.24), (0.11, 0.20, 0.03), "leaf"),
    ],
    "carrot": [
        (CONE, (0, 0, 0.95), (0.42, 0.95, 0.08), MAIN, "x", 180),
        (ELLIPSOID, (0, 0, 2.24), (0.12, 0.12, 0.44), "leaf"),
        (ELLIPSOID, (0, 0.22, 2.14), (0.10, 0.10, 0.40), "leaf", "x", -32),
        (ELLIPSOID, (0, -0.22, 2.14), (0.10, 0.10, 0.40), "leaf", "x", 32),
    ],
    "flower": [
        (CYLINDER, (0, 0, 0.78), (0.07, 0.78, 0.02), "leaf"),
        (ELLIPSOID, (0, 0.32, 0.55), (0.14, 0.34, 0.08), "leaf", "x", 30),
        (ELLIPSOID, (0, -0.32, 0.55), (0.14, 0.34, 0.08), "leaf", "x", -30),
        *[
            (ELLIPSOID, (0, 0.44 * np.cos(a), 1.80 + 0.44 * np.sin(a)), (0.12, 0.28, 0.28), MAIN)
            for a in np.arange(6) * np.pi / 3
        ],
        (ELLIPSOID, (0, 0, 1.80), (0.20, 0.27, 0.27), "flame"),
    ],
    "pine tree": [
        (CYLINDER, (0, 0, 0.20), (0.17, 0.22, 0.02), "wood"),
        (CONE, (0, 0, 0.84), (0.88, 0.50, 0.03), MAIN),
        (CONE, (0, 0, 1.45), (0.70, 0.46, 0.03), MAIN),
        (CONE, (0, 0, 2.02), (0.50, 0.42, 0.03), MAIN),
    ],
    "airplane": [
        (ELLIPSOID, (0, 0, 0.52), (1.20, 0.26, 0.26), MAIN),
        (BOX, (0.05, 0, 0.46), (0.26, 1.20, 0.05, 0.04), MAIN),
        (BOX, (-1.00, 0, 0.56), (0.16, 0.46, 0.04, 0.03), MAIN),
        (BOX, (-1.00, 0, 0.82), (0.17, 0.04, 0.32, 0.03), MAIN),
        (ELLIPSOID, (0.66, 0, 0.68), (0.28, 0.17, 0.14), "glass"),
        (CYLINDER, (0.24, 0.52, 0.33), (0.12, 0.24, 0.03), "steel", "y", 90),
        (CYLINDER, (0.24, -0.52, 0.33), (0.12, 0.24, 0.03), "steel", "y", 90),
    ],
    "castle": [
        (BOX, (0, 0, 0.45), (0.56, 0.56, 0.45, 0.01), MAIN),
        (BOX, (0, 0, 1.10), (0.32, 0.32, 0.36, 0.01), MAIN),
        (CONE, (0, 0, 1.72), (0.44, 0.28, 0.01), "brick"),
        *_four(CYLINDER, 0.60, 0.60, 0.62, (0.24, 0.62, 0.02), MAIN),
        *_four(CONE, 0.60, 0.60, 1.50, (0.31, 0.28, 0.01), "brick"),
        (BOX, (0.56, 0, 0.26), (0.04, 0.18, 0.26, 0.01), "dark wood"),
    ],
}  # fmt: skip
"""Kind to parts. The first five are the plain solids."""

SOLIDS = tuple(KINDS)[:5]

MELTS: dict[str, float] = {
    "snowman": 0.12,
    "tree": 0.30,
    "cactus": 0.14,
    "duck": 0.22,
    "fish": 0.18,
    "teddy bear": 0.16,
    "cat": 0.16,
    "dog": 0.18,
    "penguin": 0.16,
    "pumpkin": 0.05,
    "flower": 0.06,
    "airplane": 0.12,
}
"""Kinds whose own-colored parts melt into each other, with the radius within which they do, in the unit of the parts."""

NATURAL: dict[str, tuple[tuple[str, str], ...]] = {
    "mushroom": (("red", "dotted"),),
    "snowman": (("white", "plain"),),
    "traffic cone": (("orange", "plain"),),
    "house": (("plaster", "plain"),),
    "tree": (("green", "plain"),),
    "cactus": (("green", "plain"),),
    "table": (("wooden", "plain"),),
    "chair": (("wooden", "plain"),),
    "lamp": (("plaster", "plain"),),
    "rocket": (("white", "plain"),),
    "sailboat": (("white", "plain"),),
    "ice cream": (("pink", "plain"),),
    "donut": (("pink", "plain"),),
    "duck": (("yellow", "plain"),),
    "fish": (("orange", "plain"),),
    "teddy bear": (("brown", "plain"),),
    "candle": (("white", "plain"),),
    "barrel": (("wooden", "plain"),),
    "crown": (("golden", "plain"),),
    "robot": (("grey", "plain"),),
    "cat": (("orange", "plain"), ("grey", "plain")),
    "dog": (("brown", "plain"),),
    "penguin": (("black", "plain"),),
    "apple": (("red", "plain"),),
    "pumpkin": (("orange", "plain"),),
    "carrot": (("orange", "plain"),),
    "flower": (("red", "plain"), ("pink", "plain"), ("yellow", "plain")),
    "pine tree": (("green", "plain"),),
    "airplane": (("white", "plain"),),
    "castle": (("grey", "plain"),),
}
"""What a person expects of a kind whose color is not said, as (color, finish); of all other kinds, any one color."""
