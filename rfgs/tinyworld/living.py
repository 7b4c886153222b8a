"""Animals and plants of the tiny world, and what grows on plants."""

from __future__ import annotations

import numpy as np

from rfgs.tinyworld.parts import MAIN, Part, eyes, four
from rfgs.tinyworld.primitives import CONE, CYLINDER, DOME, ELLIPSOID, FRUSTUM, PRISM, SPHERE, TORUS

LIVING: dict[str, list[Part]] = {
    "mushroom": [
        (FRUSTUM, (0, 0, 0.55), (0.36, 0.26, 0.55, 0.05), "cream"),
        (DOME, (0, 0, 0.95), (1.0, 1.0, 0.85), MAIN),
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
    "duck": [
        (ELLIPSOID, (0, 0, 0.50), (0.86, 0.58, 0.50), MAIN),
        (CONE, (-0.82, 0, 0.72), (0.26, 0.30, 0.03), MAIN, "y", -60),
        (SPHERE, (0.48, 0, 1.18), (0.42,), MAIN),
        (ELLIPSOID, (0.96, 0, 1.10), (0.24, 0.17, 0.08), "carrot"),
        *eyes(0.78, 0.22, 1.34, 0.075),
    ],
    "fish": [
        (ELLIPSOID, (0.05, 0, 0.55), (0.85, 0.36, 0.52), MAIN),
        (CONE, (-0.98, 0, 0.55), (0.48, 0.34, 0.03), MAIN, "y", 90),
        (PRISM, (0.0, 0, 0.98), (0.05, 0.34, 0.34), MAIN, "z", 90),
        *eyes(0.58, 0.25, 0.68, 0.09),
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
        *eyes(0.55, 0.17, 1.55, 0.075),
    ],
    "dog": [
        (ELLIPSOID, (-0.05, 0, 0.88), (0.76, 0.38, 0.38), MAIN),
        *four(CYLINDER, 0.46, 0.22, 0.40, (0.14, 0.40, 0.12), MAIN),
        (CYLINDER, (0.58, 0, 1.20), (0.24, 0.36, 0.20), MAIN, "y", 30),
        (SPHERE, (0.74, 0, 1.52), (0.38,), MAIN),
        (ELLIPSOID, (1.10, 0, 1.42), (0.28, 0.19, 0.18), MAIN),
        (CYLINDER, (-0.86, 0, 1.22), (0.09, 0.34, 0.08), MAIN, "y", -30),
        (ELLIPSOID, (0.66, 0.38, 1.44), (0.15, 0.09, 0.32), "dark wood"),
        (ELLIPSOID, (0.66, -0.38, 1.44), (0.15, 0.09, 0.32), "dark wood"),
        (SPHERE, (1.36, 0, 1.48), (0.10,), "dark"),
        *eyes(1.00, 0.18, 1.68, 0.075),
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
        *eyes(0.43, 0.17, 1.89, 0.05),
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
}  # fmt: skip
"""Kind to parts."""
