"""Solids in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rfgs.tinyworld.primitives import BOX, CONE, CYLINDER, DOME, ELLIPSOID, FRUSTUM, PRISM, SPHERE, TORUS


def _local(row: np.ndarray, points: np.ndarray) -> np.ndarray:
    return (points - row[1:4]) @ row[4:13].reshape(3, 3).astype(np.float64).T


def _inside(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which of points [N, 3] lie in any of primitives [P, 28] (their edges taken as sharp), by textbook inequalities."""
    found = np.zeros(len(points), dtype=bool)
    for row in rows:
        x, y, z = _local(row, points).T
        code, (a, b, c, _) = int(row[0]), row[13:17].astype(np.float64)
        rho = np.hypot(x, y)
        if code == SPHERE:
            found |= x**2 + y**2 + z**2 < a**2
        elif code == BOX:
            found |= (abs(x) < a) & (abs(y) < b) & (abs(z) < c)
        elif code in (ELLIPSOID, DOME):
            found |= ((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1) & ((z > 0) | (code == ELLIPSOID))
        elif code == PRISM:
            found |= (abs(x) < a) & (z > 0) & (abs(y) / b + z / c < 1)
        elif code == TORUS:
            found |= (rho - a) ** 2 + z**2 < b**2
        elif code == CYLINDER:
            found |= (rho < a) & (abs(z) < b)
        elif code == CONE:
            found |= (abs(z) < b) & (rho < a * (b - z) / (2 * b))
        else:
            assert code == FRUSTUM
            found |= (abs(z) < c) & (rho < a + (b - a) * (z + c) / (2 * c))
    return found


def _surface(row: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random points [count, 3] on the boundary of one primitive (edges sharp), rims, corners and tips among them."""
    code, (a, b, c, _) = int(row[0]), row[13:17].astype(np.float64)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    turn, other = rng.uniform(0, 2 * np.pi, (2, count))
    face = np.arange(count) % 4
    if code in (SPHERE, ELLIPSOID, DOME):
        points = direction * (a if code == SPHERE else np.array([a, b, c]))
        if code == DOME:
            points[:, 2] = np.where(face == 0, 0, abs(points[:, 2]))
    elif code == TORUS:
        rho = a + b * np.cos(other)
        points = np.stack([rho * np.cos(turn), rho * np.sin(turn), b * np.sin(other)], axis=1)
    elif code == BOX:
        points = rng.uniform(-1, 1, (count, 3))
        axis = rng.integers(3, size=count)
        points[np.arange(count), axis] = np.sign(points[np.arange(count), axis])
        points[face == 0] = np.sign(points[face == 0])
        points = points * [a, b, c]
    elif code == PRISM:
        x, y = rng.uniform(-1, 1, (2, count))
        z = np.where(face == 0, 0, rng.uniform(0, 1, count))
        x, y = np.where(face == 1, np.sign(x), x), np.where(face >= 2, np.sign(y), y)
        points = np.stack([a * x, b * y * (1 - z), c * z], axis=1)
    else:
        low, high, half = {CYLINDER: (a, a, b), CONE: (a, 0, b), FRUSTUM: (a, b, c)}[code]
        up = np.choose(face, [0.0, 1.0, rng.uniform(0, 1, count), rng.integers(2, size=count)])
        rho = (low + (high - low) * up) * np.where(face < 2, np.sqrt(rng.uniform(0, 1, count)), 1)
        points = np.stack([rho * np.cos(turn), rho * np.sin(turn), (2 * up - 1) * half], axis=1)
    return points @ row[4:13].reshape(3, 3).astype(np.float64) + row[1:4]


@pytest.fixture(scope="session")
def inside() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return _inside


@pytest.fixture(scope="session")
def surface() -> Callable[[np.ndarray, int, np.random.Generator], np.ndarray]:
    return _surface
