"""The kinds as solids: where their parts are, how they stand, that they hold together, and what their fronts are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rfgs.render.cameras import orbit
from rfgs.tinyworld.kinds import KINDS, SOLIDS
from rfgs.tinyworld.parts import MAIN
from rfgs.tinyworld.placing import build, unit_height, unit_width
from rfgs.tinyworld.primitives import (
    BOX,
    CONE,
    CYLINDER,
    DOME,
    ELLIPSOID,
    FRUSTUM,
    PRIMITIVE_WIDTH,
    PRISM,
    SPHERE,
    TORUS,
)
from rfgs.tinyworld.primitives import _distance as distance
from rfgs.tinyworld.scenes import REACH, Scene, Thing
from rfgs.tinyworld.things import hull, kind_extent, kind_points, rotation
from rfgs.tinyworld.tracer import render_scene

Surface = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]


def row_of(part: tuple) -> np.ndarray:
    """A part as the tracer's row, in its own unit."""
    shape, at, sizes, _, *turn = part
    row = np.zeros(PRIMITIVE_WIDTH)
    row[0], row[1:4], row[13 : 13 + len(sizes)] = shape, at, sizes
    row[4:13] = (rotation(*turn).T if turn else np.eye(3)).ravel()
    return row


def alone(kind: str, seed: int = 0) -> np.ndarray:
    return build(Scene((Thing(kind, "red"),)), np.random.default_rng(seed))


@pytest.mark.parametrize(
    "axis, before, after",
    [("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0)), ("z", (1, 0, 0), (0, 1, 0))],
)
def test_rotations_are_counter_clockwise_seen_from_the_tip_of_the_axis(axis, before, after) -> None:
    np.testing.assert_allclose(rotation(axis, 90) @ before, after, atol=1e-12)
    half = rotation(axis, 30)
    np.testing.assert_allclose(half @ half.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(half @ half @ half, rotation(axis, 90), atol=1e-12)


# Shape, its sizes, and how many points its hull has.
HULLS = {
    "sphere": (SPHERE, (0.7,), 408),
    "box": (BOX, (0.6, 0.5, 0.3, 0.06), 8),
    "cylinder": (CYLINDER, (0.5, 0.7, 0.05), 48),
    "cone": (CONE, (0.7, 0.6, 0.04), 25),
    "torus": (TORUS, (0.6, 0.22), 72),
    "ellipsoid": (ELLIPSOID, (0.8, 0.35, 0.5), 408),
    "dome": (DOME, (0.7, 0.6, 0.5), 408),
    "frustum": (FRUSTUM, (0.7, 0.4, 0.5, 0.05), 48),
    "frustum that widens": (FRUSTUM, (0.3, 0.6, 0.4, 0.02), 48),
    "prism": (PRISM, (0.5, 0.6, 0.45), 6),
}
# Where a row holds the rounding of edges.
ROUNDING = {BOX: 16, FRUSTUM: 16, CYLINDER: 15, CONE: 15}


def sharp_row(part: tuple) -> np.ndarray:
    """A part as the tracer's row, without the rounding of its edges: a hull goes out to the sharp ones."""
    row = row_of(part)
    if part[0] in ROUNDING:
        row[ROUNDING[part[0]]] = 0
    return row


@pytest.mark.parametrize("name", HULLS)
def test_a_hull_lies_on_the_surface_and_has_its_ends_along_every_axis(name: str, surface: Surface) -> None:
    shape, sizes, count = HULLS[name]
    points, row = hull(shape, sizes), sharp_row((shape, (0, 0, 0), sizes, MAIN))
    assert points.shape == (count, 3)
    np.testing.assert_allclose([distance(row, *point) for point in points], 0, atol=1e-6)
    sampled = surface(row, 4000, np.random.default_rng(0))
    for sign in (-1, 1):
        end, found = (sign * points).max(axis=0), (sign * sampled).max(axis=0)
        assert (found <= end + 1e-6).all() and (found > end - 0.02).all(), (sign, found, end)


@pytest.mark.parametrize("kind", KINDS)
def test_the_points_of_a_kind_lie_on_its_parts(kind: str) -> None:
    points = iter(kind_points(kind))
    for part in KINDS[kind]:
        row = sharp_row(part)
        for _ in hull(part[0], part[2]):
            assert abs(distance(row, *next(points))) < 1e-5, part
    assert next(points, None) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_extent_of_a_kind_is_that_of_its_surface(kind: str, surface: Surface) -> None:
    """Also where parts are turned by odd angles: the duck's tail, the boat's sail."""
    rng = np.random.default_rng(0)
    sampled = np.concatenate([surface(row_of(part), 3000, rng) for part in KINDS[kind]])
    low, high = kind_extent(kind)
    assert (sampled >= low - 1e-6).all() and (sampled <= high + 1e-6).all()
    near = 0.015 * (high - low).max()
    assert (sampled.min(axis=0) < low + near).all() and (sampled.max(axis=0) > high - near).all()


def test_the_extent_of_a_mug_is_known_from_its_plan() -> None:
    low, high = kind_extent("mug")
    # The body's radius on three sides, the ring of the handle on the fourth, the coffee a hair above the rim.
    np.testing.assert_allclose(low, (-0.62, -0.62, 0.0), atol=1e-12)
    np.testing.assert_allclose(high, (0.62, 0.66 + 0.36 + 0.13, 1.41))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_stands_in_the_middle_has_its_stated_size_and_fits_the_ball(
    kind: str, surface: Surface
) -> None:
    rng, heights = np.random.default_rng(0), []
    for seed in range(3):
        points = np.concatenate([surface(row, 2000, rng) for row in alone(kind, seed)])
        low, high = points.min(axis=0), points.max(axis=0)
        size = (high[2] - low[2]) / unit_height(kind)
        assert 0.84 < size < 1.01  # Drawn from 0.85 to 1.
        assert low[2] == pytest.approx(-high[2], abs=0.01)
        assert (low + high)[:2] == pytest.approx([0, 0], abs=0.015)
        assert (high - low)[1] == pytest.approx(size * unit_width(kind), abs=0.02)
        # A sphere is the smallest; what has corners or is long fills the ball that cameras see.
        assert 0.70 * size < np.linalg.norm(points, axis=1).max() < REACH * size + 3e-3
        heights.append(high[2])
    assert np.ptp(heights) > 0.01


def test_kinds_are_about_as_large_as_one_another_and_those_with_corners_reach_as_far_as_they_may(
    surface: Surface,
) -> None:
    rng = np.random.default_rng(0)
    reach = {}
    for kind in KINDS:
        points = np.concatenate([surface(row, 2000, rng) for row in alone(kind)])
        reach[kind] = np.linalg.norm(points, axis=1).max() / (np.ptp(points[:, 2]) / unit_height(kind))
    assert {"cube", "table", "traffic cone", "present", "car"} <= {
        kind for kind, radius in reach.items() if radius == pytest.approx(REACH, abs=2e-3)
    }
    assert 0.9 < np.mean(list(reach.values())) < 1.03


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SOLIDS])
def test_all_parts_of_a_kind_hold_together(kind: str, surface: Surface, inside: Inside) -> None:
    """All but a hand's breadth: a flame hovers 0.02 above its candle, a robot's arms hang 0.03 beside its body."""
    rows, rng = alone(kind), np.random.default_rng(0)
    clouds = [surface(row, 4000, rng) for row in rows]
    grown = rows.copy()
    grown[:, 13:17] += 0.031
    joined, waiting = {0}, [0]
    while waiting:
        i = waiting.pop()
        for j in set(range(len(rows))) - joined:
            if inside(grown[j : j + 1], clouds[i]).any() or inside(grown[i : i + 1], clouds[j]).any():
                joined.add(j)
                waiting.append(j)
    assert joined == set(range(len(rows)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SOLIDS])
def test_no_part_is_hidden_by_the_others(kind: str, surface: Surface, inside: Inside) -> None:
    rows, rng = alone(kind), np.random.default_rng(0)
    for i, row in enumerate(rows):
        others = np.delete(rows, i, axis=0)
        # The least is a dog's neck, which joins two parts.
        assert (~inside(others, surface(row, 2000, rng))).mean() > 0.06, KINDS[kind][i]


def test_fronts_look_along_x_and_handles_are_on_the_left() -> None:
    def side(kind: str, color: str, axis: int) -> list[float]:
        return [part[1][axis] for part in KINDS[kind] if part[3] == color]

    faces = {
        "snowman": ("carrot", "dark"),
        "house": ("dark wood", "glass"),
        "rocket": ("glass",),
        "car": ("flame",),
        "duck": ("carrot", "dark"),
        "fish": ("dark",),
        "teddy bear": ("cream", "dark"),
        "robot": ("glass",),
        "cat": ("pale", "rose", "dark"),
        "dog": ("dark",),
        "penguin": ("pale", "carrot", "dark"),
        "airplane": ("glass",),
        "castle": ("dark wood",),
    }
    for kind, colors in faces.items():
        for color in colors:
            # A snowman's hat is dark too, and sits in the middle.
            assert all(x > 0 or (kind, x) == ("snowman", 0) for x in side(kind, color, 0)), (kind, color)
            assert any(x > 0 for x in side(kind, color, 0)), (kind, color)
    # The chair's back is behind, the mug's handle at +Y.
    assert min(part[1][0] for part in KINDS["chair"] if part[3] == MAIN and part[1][2] > 1) < -0.4
    assert max(part[1][1] for part in KINDS["mug"]) > 0.5


def test_its_own_color_shows_from_every_side() -> None:
    """At 32 pixels, painted pure red and the rest pure blue: what a classifier of colors has to go by."""
    cameras = orbit([0, 90, 180, 270] * 2, [5] * 4 + [35] * 4, 3.2, 40, 32, 32)
    for kind, parts in KINDS.items():
        rows = alone(kind)
        rows[:, 17:20] = [(1, 0, 0) if part[3] == MAIN else (0, 0, 1) for part in parts]
        pictures = render_scene(rows, cameras.viewmats.numpy(), cameras.Ks.numpy(), 32, 32, 2)
        red, blue = pictures[..., 0].sum(axis=(1, 2)), pictures[..., 2].sum(axis=(1, 2))
        # The least are a sail seen edge-on and walls seen from above a roof.
        assert (red / (red + blue)).min() > 0.14, kind
        assert (red / (red + blue)).mean() > 0.3, kind
