"""Where the things of a scene stand and how large they are: scenes as the primitives that the tracer draws."""

from __future__ import annotations

import functools

import numpy as np

from rfgs.tinyworld.kinds import KINDS, MELTS
from rfgs.tinyworld.parts import MAIN, TONES
from rfgs.tinyworld.primitives import CYLINDER, PRIMITIVE_WIDTH, fall
from rfgs.tinyworld.scenes import COLORS, FINISHES, GROUNDS, PAINTS, REACH, SIZES, Scene, Thing, second_color
from rfgs.tinyworld.things import hull, kind_points, rotation


def _place(thing: Thing, number: int, size: float, floor: tuple[float, float, float]) -> np.ndarray:
    """The primitives [P, 28] of thing `number` of a scene, which stands on the point `floor`; see `unit_height` for its size."""
    scale, low, high = _unit(thing.kind)
    scale *= size
    shift = np.array(floor) - scale * np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    rows = np.zeros((len(KINDS[thing.kind]), PRIMITIVE_WIDTH), dtype=np.float32)
    for row, (shape, at, sizes, color, *turn) in zip(rows, KINDS[thing.kind], strict=True):
        row[0] = shape
        row[1:4] = scale * np.array(at) + shift
        # The tracer wants world to primitive, the inverse of the turn.
        row[4:13] = (rotation(*turn).T if turn else np.eye(3)).ravel()
        row[13 : 13 + len(sizes)] = scale * np.array(sizes)
        row[24], row[26] = 1, number
        if color == MAIN:
            row[17:20] = PAINTS[thing.color]
            row[20] = FINISHES[thing.finish]
            row[21:24] = COLORS[second_color(thing.color)]
            row[24] = {"striped": 0.40, "dotted": 0.42}.get(thing.finish, 1.0) * size
            row[25], row[27] = scale * MELTS.get(thing.kind, 0.0), 1
        else:
            row[17:20] = TONES[color]
    return rows


@functools.cache
def _unit(kind: str) -> tuple[float, np.ndarray, np.ndarray]:
    """The factor that makes a kind about as large as others, within the ball of radius REACH, and its extent before that."""
    points = kind_points(kind)
    low, high = points.min(axis=0), points.max(axis=0)
    half = (high - low) / 2
    # Round things do not fill the corners of their box; 0.85 is between a square's and a circle's need.
    across = 0.85 * np.hypot(half[0], half[1])
    size = max(np.hypot(across, half[2]) * 0.9, half[2])
    farthest = np.linalg.norm(points - (low + high) / 2, axis=1).max()
    return min(1 / size, REACH / farthest), low, high


def unit_height(kind: str) -> float:
    """Height of a thing of size 1."""
    scale, low, high = _unit(kind)
    return scale * (high[2] - low[2])


def unit_width(kind: str) -> float:
    """Width along Y of a thing of size 1."""
    scale, low, high = _unit(kind)
    return scale * (high[1] - low[1])


def build(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The tracer's primitives [P, 28] of a scene, with sizes drawn a little differently each time."""
    first = scene.things[0]
    if scene.relation == "next to":
        rows = _beside(first, scene.things[1], rng)
    elif scene.relation == "on":
        rows = _stacked(first, scene.things[1], rng)
    elif scene.ground is None:
        size = SIZES[first.size] * rng.uniform(0.88, 1.0)
        rows = _place(first, 0, size, (0, 0, -size * unit_height(first.kind) / 2))
    else:
        rows = _grounded(first, scene.ground, rng)
    return _fit(rows)


def _fit(rows: np.ndarray) -> np.ndarray:
    """Primitives [P, 28] made smaller where a part of them leaves the ball of radius REACH about the origin."""
    points = [row[1:4] + hull(int(row[0]), row[13:17]) @ row[4:13].reshape(3, 3) for row in rows]
    shrink = min(1.0, REACH / np.linalg.norm(np.concatenate(points), axis=1).max())
    rows[:, 1:4] *= shrink
    rows[:, 13:17] *= shrink
    rows[:, 24:26] *= shrink
    return rows


def _grounded(thing: Thing, ground: str, rng: np.random.Generator) -> np.ndarray:
    """A thing on a disc of the ground; it lies a little in water and in snow."""
    _, finish, color, other, period = GROUNDS[ground]
    size = SIZES[thing.size] * rng.uniform(0.68, 0.76)
    height = size * unit_height(thing.kind)
    disc = np.zeros((1, PRIMITIVE_WIDTH), dtype=np.float32)
    disc[0, 0], disc[0, 20], disc[0, 24] = CYLINDER, finish, period
    disc[0, 4:13] = np.eye(3).ravel()
    disc[0, 13:16] = 0.95, 0.05, 0.03
    disc[0, 17:20], disc[0, 21:24] = color, other
    disc[0, 26] = 1
    # The whole is centerd.
    floor = -(height + 0.10) / 2 + 0.10
    disc[0, 3] = floor - 0.05
    depth = {"water": 0.10, "snow": 0.06}.get(ground, 0.005) * height
    return np.concatenate([_place(thing, 0, size, (0, 0, floor - depth)), disc])


def _beside(first: Thing, second: Thing, rng: np.random.Generator) -> np.ndarray:
    """`first` to the left of `second` seen from the front (at -Y), on one floor, a small gap between them."""
    sizes = rng.uniform(0.51, 0.56, 2) * [SIZES[first.size], SIZES[second.size]]
    widths = [size * unit_width(thing.kind) for size, thing in zip(sizes, (first, second), strict=True)]
    gap = rng.uniform(0.06, 0.12)
    # Two wide things are made smaller, so that the pair stays in the picture.
    shrink = min(1.0, 1.90 / (sum(widths) + gap))
    sizes, widths, gap = sizes * shrink, [width * shrink for width in widths], gap * shrink
    start = -(sum(widths) + gap) / 2
    heights = [size * unit_height(thing.kind) for size, thing in zip(sizes, (first, second), strict=True)]
    floor = -max(heights) / 2
    left = _place(first, 0, sizes[0], (0, start + widths[0] / 2, floor))
    right = _place(second, 1, sizes[1], (0, -start - widths[1] / 2, floor))
    return np.concatenate([left, right])


def _stacked(first: Thing, second: Thing, rng: np.random.Generator) -> np.ndarray:
    """`first` on top of `second`, the lower one a little larger; let down until the two touch."""
    above = SIZES[first.size] * rng.uniform(0.51, 0.56)
    below = SIZES[second.size] * rng.uniform(0.61, 0.66)
    top, bottom = above * unit_height(first.kind), below * unit_height(second.kind)
    lower = _place(second, 1, below, (0, 0, -bottom))
    upper = _place(first, 0, above, (0, 0, 0))
    # A stalk over a hole would slip through: half of the upper thing stays above the lower one.
    drop = min(fall(upper, lower, 0.7, 56), 0.5 * top) + 0.01
    upper[:, 3] -= drop
    rows = np.concatenate([upper, lower])
    rows[:, 3] -= (top - drop - bottom) / 2
    return rows
