"""The things of the tiny world as shapes: points on their parts, and from these how large they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.primitives import BOX, CONE, DOME, ELLIPSOID, FRUSTUM, PRISM, SPHERE, TORUS


def rotation(axis: str, degrees: float) -> np.ndarray:
    """Matrix [3, 3] that turns by `degrees` about the axis "x", "y" or "z", counter-clockwise seen from its tip."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[j, j], matrix[i, j], matrix[j, i] = c, c, -s, s
    return matrix


def hull(shape: int, sizes: Sequence[float]) -> np.ndarray:
    """Points [N, 3] on a part about its own center: corners of flat shapes, circles of 24 and balls of 408 of round ones.

    The lowest and the highest point along each axis of the part are among them.
    """
    size = np.array(sizes, dtype=float)
    angles = np.arange(24) * (np.pi / 12)
    circle = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    up = np.array([0.0, 0.0, 1.0])
    if shape == BOX:
        return size[:3] * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    if shape in (SPHERE, ELLIPSOID, DOME):
        heights = np.sin(np.radians(np.linspace(0 if shape == DOME else -90, 90, 17)))[:, None, None]
        ball = (np.sqrt(1 - heights**2) * circle + heights * up).reshape(-1, 3)
        return ball * (size[0] if shape == SPHERE else size[:3])
    if shape == PRISM:
        corners = [[x, y, 0] for x in (-size[0], size[0]) for y in (-size[1], size[1])]
        return np.array(corners + [[x, 0, size[2]] for x in (-size[0], size[0])])
    if shape == TORUS:
        ring, tube = size[0] * circle, size[1] * up
        return np.concatenate([(size[0] + size[1]) * circle, ring + tube, ring - tube])
    if shape == CONE:
        return np.concatenate([size[0] * circle - size[1] * up, [size[1] * up]])
    # CYLINDER and FRUSTUM: a circle below and one above.
    lower, upper, half = size[:3] if shape == FRUSTUM else (size[0], size[0], size[1])
    return np.concatenate([lower * circle - half * up, upper * circle + half * up])


def kind_points(kind: str) -> np.ndarray:
    """Points [N, 3] on all parts of a kind, from `hull`; they tell its exact extent along the axes where parts are upright."""
    return np.concatenate(
        [
            np.array(at) + (hull(shape, sizes) @ rotation(*turn).T if turn else hull(shape, sizes))
            for shape, at, sizes, _, *turn in KINDS[kind]
        ]
    )


def kind_extent(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner [3], [3] of all parts of a kind."""
    points = kind_points(kind)
    return points.min(axis=0), points.max(axis=0)
