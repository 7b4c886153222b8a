"""The truth of pictures, such as samples of a 2D model: how near each is to the best of all that its prompt may show.

The view is free within what the prompt's words say, the size is free, and so is what is behind. Of all pictures of the prompt's
albums the nearest in all pixels is found, then of that one's neighbors the nearest again. The figures are those of
`rfgs.tinyworld.truth`, of that one picture over the sample's own background:

    behind        the median color of the picture's outermost pixels
    silhouette    what differs from it by more than TOLD in any channel; pixels where the truth itself does not are left out
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rfgs.render.cameras import view_words
from rfgs.tinyworld.album import Grid, album
from rfgs.tinyworld.edges import shared_edges
from rfgs.tinyworld.language import VIEWS, parse
from rfgs.tinyworld.pictures import IMAGE_SIZE, thing_colors
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.shapes import by_shape, cameras_at, rows_at, traced
from rfgs.tinyworld.tracer import painted
from rfgs.tinyworld.truth import SquaredErrors, Truth, decisiveness

TOLD = 0.1
"""Difference of colors by which an object is told from what is behind it."""
STEP = 5.0
"""Degrees between neighbors that are tried after the grid, one to each side; sizes are tried by quarters of their range."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pictures that a prompt may mean, of one shape."""

    layers: np.ndarray
    """[K, H, W, 8] uint8."""
    places: list[tuple[float, float, float]]
    """Azimuth, elevation (degrees) and fraction of the size's range of each."""


def measure_picture(image: Tensor, prompt: str, grid: Grid | None = None) -> Truth:
    """The truth about a picture [3, 128, 128] in [0, 1] of a prompt, with or without view words at its end."""
    grid = grid or Grid()
    word = next((view for view in VIEWS if prompt.endswith(view)), None)
    rgb = image.clamp(0, 1).permute(1, 2, 0).double().cpu().numpy()
    edge = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    behind = np.median(edge, axis=0)
    looks = parse(prompt).looks()
    found = []
    for shape, scenes in by_shape(looks).items():
        _, _, place = _nearest(rgb, behind, _on_grid(shape, grid, word), scenes)
        error, scene, place = _nearest(rgb, behind, _around(shape, place, word), scenes)
        found.append((error, scene, place, shape))
    _, scene, place, shape = min(found, key=lambda row: row[0])
    return _figures(rgb, behind, _traced(shape, place, 2), scene, looks, place[2])


def _figures(
    rgb: np.ndarray, behind: np.ndarray, layers: np.ndarray, scene: Scene, looks: list[Scene], fraction: float
) -> Truth:
    there = layers[..., 7] > 127
    parts = layers / 255.0
    true = painted(parts, thing_colors(scene)) + behind * (1 - parts[..., 7:])
    hidden = there & (np.abs(true - behind).max(axis=-1) <= TOLD)
    silhouette = np.abs(rgb - behind).max(axis=-1) > TOLD
    both, either = silhouette & there & ~hidden, (silhouette | there) & ~hidden
    errors = SquaredErrors(rgb[None], layers[None], (silhouette | there)[None], behind)
    psnr = -10 * math.log10(max(errors(thing_colors(scene)), 1e-10))
    decisive = None
    if len(looks) > 1:
        inside = SquaredErrors(rgb[None], layers[None], (silhouette & there)[None], behind)
        decisive = decisiveness(inside, looks, scene)
    edges = shared_edges(rgb[None], true[None])
    return Truth(float(both.sum() / max(either.sum(), 1)), psnr, edges, decisive, None, scene, fraction)


@functools.lru_cache(maxsize=8)
def _on_grid(shape: Scene, grid: Grid, word: str | None) -> Candidates:
    shown = album(shape, grid)
    rows = np.flatnonzero([word is None or other == word for other in shown.words])
    views = grid.views()
    places = [(*views[row % len(views)], grid.fractions[row // len(views)]) for row in rows]
    return Candidates(shown.pictures(rows), places)


def _around(shape: Scene, place: tuple[float, float, float], word: str | None) -> Candidates:
    """Neighbors of a place that the word allows, itself among them."""
    azimuth, elevation, fraction = place
    places = [
        (azimuth + i * STEP, max(-90.0, min(elevation + j * STEP, 90.0)), size)
        for size in sorted({max(fraction - 0.25, 0.0), fraction, min(fraction + 0.25, 1.0)})
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    said = view_words(*zip(*[place[:2] for place in places], strict=True))
    places = [place for place, other in zip(places, said, strict=True) if word in (None, other)]
    return Candidates(np.stack([_traced(shape, place, 1) for place in places]), places)


def _traced(shape: Scene, place: tuple[float, float, float], supersample: int) -> np.ndarray:
    azimuth, elevation, fraction = place
    one = traced(rows_at(shape, fraction), cameras_at([(azimuth, elevation)], IMAGE_SIZE), supersample)
    return (one[0] * 255 + 0.5).astype(np.uint8)


def _nearest(
    rgb: np.ndarray, behind: np.ndarray, shown: Candidates, scenes: list[Scene]
) -> tuple[float, Scene, tuple[float, float, float]]:
    """Of all candidates in all looks the one with the least squared error: that, its look and its place."""
    parts = shown.layers.reshape(len(shown.layers), -1, 8).astype(np.float32) / 255
    # Over the background, a picture is linear in eight columns: x - behind = own colors + fixed - behind * coverage.
    rest = (rgb - behind).reshape(-1, 3).astype(np.float32)
    dots, gram = parts.transpose(0, 2, 1) @ rest, parts.transpose(0, 2, 1) @ parts
    found = []
    for scene in scenes:
        weights = np.zeros((8, 3))
        weights[:4], weights[4:7], weights[7] = thing_colors(scene), np.eye(3), -behind
        errors = ((gram @ weights) * weights).sum((1, 2)) - 2 * (dots * weights).sum((1, 2))
        k = int(errors.argmin())
        found.append((float(errors[k]), scene, shown.places[k]))
    return min(found, key=lambda row: row[0])
