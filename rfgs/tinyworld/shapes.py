"""What a prompt names, as geometry: the shapes of its looks, built at any fraction of their size ranges, and traced.

Poses are canonical, so a scene is known but for a size that `rfgs.tinyworld.placing.build` draws from a range. Colors change
nothing about where light falls, so that looks that differ in color only are one shape, which is traced once, in layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rfgs.models.threads import usable
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, Cameras, orbit
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.tracer import render_layers


class Fraction:
    """In the place of a random generator for `build`: every uniform draw at one fraction of its range."""

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        value = low + self._fraction * (high - low)
        return value if size is None else np.full(size, value)


def shape_of(scene: Scene) -> Scene:
    """The scene with all its colors white: equal for looks that differ in color only."""
    return replace(scene, things=tuple(replace(thing, color="white") for thing in scene.things))


def by_shape(looks: list[Scene]) -> dict[Scene, list[Scene]]:
    """Looks in groups that are one shape each."""
    groups: dict[Scene, list[Scene]] = {}
    for scene in looks:
        groups.setdefault(shape_of(scene), []).append(scene)
    return groups


def rows_at(scene: Scene, fraction: float) -> np.ndarray:
    """The tracer's primitives [P, 28] of a scene at a fraction in [0, 1] of every range of sizes."""
    return build(scene, Fraction(fraction))  # type: ignore[arg-type]


def cameras_at(views: list[tuple[float, float]], size: int) -> Cameras:
    """Cameras of square pictures at the default distance, for views (azimuth, elevation) in degrees."""
    azimuths, elevations = zip(*views, strict=True)
    return orbit(azimuths, elevations, DEFAULT_DISTANCE, DEFAULT_FOV, size, size)


def traced(rows: np.ndarray, cameras: Cameras, supersample: int = 2) -> np.ndarray:
    """Layers [C, H, W, 8] in [0, 1] of primitives, float32, by all processors that this process may use."""
    return render_layers(
        rows,
        cameras.viewmats.numpy(),
        cameras.Ks.numpy(),
        cameras.width,
        cameras.height,
        supersample,
        threads=usable(),
    )
