"""The tracer against closed forms: distances, silhouettes, finishes, shading; and what its pixels mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rfgs.render.cameras import Cameras, orbit
from rfgs.tinyworld import primitives
from rfgs.tinyworld.kinds import KINDS, MELTS
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.primitives import (
    BOX,
    CONE,
    CYLINDER,
    DOME,
    DOTTED,
    ELLIPSOID,
    FRUSTUM,
    MOTTLED,
    PLAIN,
    PLANKS,
    PRIMITIVE_WIDTH,
    PRISM,
    RIPPLED,
    SPHERE,
    STRIPED,
    TORUS,
)
from rfgs.tinyworld.primitives import _distance as distance
from rfgs.tinyworld.primitives import _nearest as nearest
from rfgs.tinyworld.primitives import _second_share as second_share
from rfgs.tinyworld.scenes import Scene, Thing
from rfgs.tinyworld.tracer import LAYERS, own_colors, primitive_radii, render_layers, render_scene


def primitive(
    code: int, sizes: tuple[float, ...], *, center=(0.0, 0.0, 0.0), rotation=None, color=(0.5, 0.25, 0.75)
) -> np.ndarray:
    row = np.zeros(PRIMITIVE_WIDTH, dtype=np.float32)
    row[0], row[1:4], row[17:20] = code, center, color
    row[4:13] = (np.eye(3) if rotation is None else rotation).ravel()
    row[13 : 13 + len(sizes)] = sizes
    return row


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def trace(prims: np.ndarray, cameras: Cameras, supersample: int = 2) -> np.ndarray:
    return render_scene(
        prims, cameras.viewmats.numpy(), cameras.Ks.numpy(), cameras.width, cameras.height, supersample
    )


# Distances


def true_box(p: np.ndarray, sizes: tuple[float, ...]) -> np.ndarray:
    """The box shrunk by its rounding, by projection outside and by its nearest face inside; then grown again."""
    half, r = np.array(sizes[:3]) - sizes[3], sizes[3]
    outside = np.linalg.norm(p - np.clip(p, -half, half), axis=1)
    depth = (half - np.abs(p)).min(axis=1)
    return np.where(depth > 0, -depth, outside) - r


def true_revolved(rho: np.ndarray, z: np.ndarray, outline: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Distance in the half plane to the nearest of the segments of `outline` [K, 2], negative where `inside`."""
    points = np.stack([rho, z], axis=1)
    found = []
    for a, b in zip(outline[:-1], outline[1:], strict=True):
        along = ((points - a) @ (b - a) / ((b - a) @ (b - a))).clip(0, 1)
        found.append(np.linalg.norm(points - a - along[:, None] * (b - a), axis=1))
    return np.where(inside, -1, 1) * np.min(found, axis=0)


def true_cylinder(p: np.ndarray, sizes: tuple[float, ...]) -> np.ndarray:
    r = sizes[2]
    radius, h = sizes[0] - r, sizes[1] - r
    rho, z = np.hypot(p[:, 0], p[:, 1]), p[:, 2]
    outline = np.array([(0, h), (radius, h), (radius, -h), (0, -h)])
    return true_revolved(rho, z, outline, (rho < radius) & (np.abs(z) < h)) - r


def true_cone(p: np.ndarray, sizes: tuple[float, ...]) -> np.ndarray:
    r = sizes[2]
    radius, h = sizes[0] - r, sizes[1] - r
    rho, z = np.hypot(p[:, 0], p[:, 1]), p[:, 2]
    outline = np.array([(0, h), (radius, -h), (0, -h)])
    inside = (z > -h) & (rho / radius + (z + h) / (2 * h) < 1)
    return true_revolved(rho, z, outline, inside) - r


def true_torus(p: np.ndarray, sizes: tuple[float, ...]) -> np.ndarray:
    """To the nearest point of the ring itself, which lies in the same direction from the axis."""
    ring = sizes[0] * np.stack([p[:, 0], p[:, 1], 0 * p[:, 0]], axis=1) / np.hypot(p[:, 0], p[:, 1])[:, None]
    return np.linalg.norm(p - ring, axis=1) - sizes[1]


def true_frustum(p: np.ndarray, sizes: tuple[float, ...]) -> np.ndarray:
    r = sizes[3]
    low, high, h = sizes[0] - r, sizes[1] - r, sizes[2] - r
    rho, z = np.hypot(p[:, 0], p[:, 1]), p[:, 2]
    outline = np.array([(0, h), (high, h), (low, -h), (0, -h)])
    inside = (np.abs(z) < h) & (rho < low + (high - low) * (z + h) / (2 * h))
    return true_revolved(rho, z, outline, inside) - r


def true_ellipsoid(p: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """In any number of axes: the nearest point is q = a^2 p / (a^2 + t), where t makes q a point of the surface.

    The root is bracketed by t = -min(a)^2 and the t of the ball of radius max(a), and bisected (Eberly 2013).
    """
    low = np.full(len(p), -(radii.min() ** 2) + 1e-12)
    high = np.full(len(p), radii.max() * np.linalg.norm(p, axis=1).max())
    for _ in range(100):
        t = (low + high) / 2
        beyond = ((radii * p / (radii**2 + t[:, None])) ** 2).sum(axis=1) > 1
        low, high = np.where(beyond, t, low), np.where(beyond, high, t)
    nearest = radii**2 * p / (radii**2 + t[:, None])
    return np.linalg.norm(p - nearest, axis=1) * np.where(((p / radii) ** 2).sum(axis=1) < 1, -1, 1)


def true_dome(p: np.ndarray, sizes: tuple[float, ...]) -> np.ndarray:
    """Above its floor the nearest point is the ellipsoid's or, from inside, the floor's; below it is the floor's, an ellipse."""
    shell, z = true_ellipsoid(p, np.array(sizes)), p[:, 2]
    beside = np.maximum(true_ellipsoid(p[:, :2], np.array(sizes[:2])), 0)
    return np.where(z < 0, np.hypot(beside, z), np.where(shell < 0, np.maximum(shell, -z), shell))


def true_prism(p: np.ndarray, sizes: tuple[float, ...]) -> np.ndarray:
    """The distance to its triangle in the (y, z) plane, drawn out along x."""
    x, half, height = sizes
    y, z = np.abs(p[:, 1]), p[:, 2]
    outline = np.array([(0, height), (half, 0), (0, 0)])
    triangle = true_revolved(y, z, outline, (z > 0) & (y / half + z / height < 1))
    along = np.abs(p[:, 0]) - x
    outside = np.hypot(np.maximum(triangle, 0), np.maximum(along, 0))
    return np.where((triangle < 0) & (along < 0), np.maximum(triangle, along), outside)


TRUTHS = {
    "sphere": (SPHERE, (0.7,), lambda p, sizes: np.linalg.norm(p, axis=1) - sizes[0]),
    "box": (BOX, (0.6, 0.5, 0.3, 0.06), true_box),
    "cylinder": (CYLINDER, (0.5, 0.7, 0.05), true_cylinder),
    "cone": (CONE, (0.7, 0.6, 0.04), true_cone),
    "torus": (TORUS, (0.6, 0.22), true_torus),
    "frustum": (FRUSTUM, (0.7, 0.4, 0.5, 0.05), true_frustum),
    "frustum that widens": (FRUSTUM, (0.3, 0.6, 0.4, 0.02), true_frustum),
}
BOUNDS = {
    "ellipsoid": (ELLIPSOID, (0.8, 0.35, 0.5), lambda p, sizes: true_ellipsoid(p, np.array(sizes))),
    "dome": (DOME, (0.7, 0.6, 0.5), true_dome),
    "prism": (PRISM, (0.5, 0.6, 0.45), true_prism),
}


def samples(
    shape: tuple, rng: np.random.Generator, count: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A primitive that stands anywhere in any way, points [count, 3] in its own axes, and its distances at them."""
    code, sizes, _ = shape
    center, rotation = rng.uniform(-0.3, 0.3, 3), random_rotation(rng)
    row = primitive(code, sizes, center=center, rotation=rotation)
    local = (
        rng.uniform(-1.2, 1.2, (count, 3)) * np.where(np.arange(count) % 2, 1, 0.6)[:, None]
    )  # Half near it.
    world = local @ rotation + center  # The inverse of local = rotation (world - center).
    return row, local, np.array([distance(row, *point) for point in world])


@pytest.mark.parametrize("shape", TRUTHS)
def test_distance_is_the_true_one_with_its_sign_wherever_the_primitive_stands(shape: str) -> None:
    _, local, found = samples(TRUTHS[shape], np.random.default_rng(0))
    expected = TRUTHS[shape][2](local, TRUTHS[shape][1])
    assert (expected < -0.01).sum() > 15 and (expected > 0.01).sum() > 100  # Both signs are tried.
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize("shape", BOUNDS)
def test_bounds_have_the_true_sign_and_are_no_larger_than_the_distance_outside(shape: str) -> None:
    """A march that steps by a bound never passes the surface, and one that is not much smaller arrives."""
    _, local, found = samples(BOUNDS[shape], np.random.default_rng(0), count=400)
    truth = BOUNDS[shape][2](local, BOUNDS[shape][1])
    assert (truth < -0.01).sum() > 15 and (truth > 0.01).sum() > 200
    clear = np.abs(truth) > 1e-4
    assert (np.sign(found) == np.sign(truth))[clear].all()
    outside = truth > 0
    assert (found[outside] <= truth[outside] + 5e-5).all()
    # At an edge of angle g a bound by planes is sin(g / 2) of the distance: 0.32 at the prism's eaves.
    assert (found[outside] >= 0.3 * truth[outside] - 5e-5).all()


@pytest.mark.parametrize("shape", BOUNDS)
def test_bounds_are_zero_on_the_surface_and_grow_there_as_the_distance_does(shape: str, surface) -> None:
    code, sizes, _ = BOUNDS[shape]
    rng = np.random.default_rng(0)
    row = primitive(code, sizes, center=rng.uniform(-0.3, 0.3, 3), rotation=random_rotation(rng))
    points = surface(row, 300, rng)
    assert max(abs(distance(row, *point)) for point in points) < 1e-5
    steps = 1e-3 * np.eye(3)
    slopes = [
        np.linalg.norm([distance(row, *(p + e)) - distance(row, *(p - e)) for e in steps]) / 2e-3
        for p in points
    ]
    assert np.quantile(np.abs(np.array(slopes) - 1), 0.6) < 0.02  # Not so at the edges, where faces meet.


def test_a_turned_prism_has_its_ridge_along_its_own_x_and_a_dome_its_crown_up() -> None:
    roof = primitive(PRISM, (0.5, 0.3, 0.4))
    assert abs(distance(roof, 0.4, 0.0, 0.4)) < 1e-6 and distance(roof, 0.0, 0.25, 0.35) > 0.05
    turned = primitive(PRISM, (0.5, 0.3, 0.4), rotation=np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]))
    assert abs(distance(turned, 0.0, 0.4, 0.4)) < 1e-6 and distance(turned, 0.25, 0.0, 0.35) > 0.05
    dome = primitive(DOME, (0.5, 0.5, 0.3))
    assert abs(distance(dome, 0.0, 0.0, 0.3)) < 1e-6
    assert distance(dome, 0.0, 0.0, -0.1) == pytest.approx(0.1)


# Bounding balls


SIZES = {
    SPHERE: 1,
    BOX: 3,
    CYLINDER: 2,
    CONE: 2,
    TORUS: 2,
    ELLIPSOID: 3,
    DOME: 3,
    FRUSTUM: 3,
    PRISM: 3,
}


@pytest.mark.parametrize("code", SIZES)
def test_radii_hold_every_primitive_and_are_not_much_larger(code: int, surface) -> None:
    rng = np.random.default_rng(code)
    rows = np.stack(
        [
            primitive(code, tuple(rng.uniform(0.1, 1, SIZES[code])), center=rng.uniform(-1, 1, 3))
            for _ in range(30)
        ]
    )
    for row, radius in zip(rows, primitive_radii(rows), strict=True):
        farthest = np.linalg.norm(surface(row, 1000, rng) - row[1:4], axis=1).max()
        assert farthest <= radius + 1e-6
        assert radius <= 1.5 * farthest + 0.01, (row[13:17], radius, farthest)


def test_pictures_are_the_same_when_no_primitive_is_passed_over() -> None:
    """Rays ask only the primitives whose ball they meet: with boundless balls they ask all, and see the same."""
    camera = orbit(30, 20, 3.2, 40, 24, 24)
    view, K = camera.viewmats[0].numpy(), camera.Ks[0].numpy()
    for kind in ("teddy bear", "sailboat", "crown", "mug", "dog", "pumpkin"):
        prims = build(Scene((Thing(kind, "red", "dotted"),)), np.random.default_rng(0))
        out = np.zeros((24, 24, LAYERS), dtype=np.float32)
        primitives.trace(prims, np.full(len(prims), 9, np.float32), view, K, 24, 24, 2, out)
        picture = render_layers(prims, view[None], K[None], 24, 24)[0]
        # A march that steps a little differently may end on the other of two parts that meet, or just miss an outline.
        assert np.mean(np.abs(picture - out) > 0.01) < 0.005


def test_radii_hold_what_parts_melt_into() -> None:
    rng = np.random.default_rng(0)
    for kind in MELTS:
        rows = build(Scene((Thing(kind, "red"),)), rng)
        radii, everything = primitive_radii(rows), np.arange(len(rows))
        for point in rng.uniform(-1, 1, (4000, 3)):
            if nearest(rows, everything, len(rows), *point)[0] < 1e-3:
                assert (np.linalg.norm(rows[:, 1:4] - point, axis=1) < radii).any(), kind


# Melting


def smooth_minimum(a: float, b: float, k: float) -> float:
    """The polynomial that meets min(a, b) with its slope where they differ by k: with d = |a - b|, min - (k - d)^2 / 4k."""
    return min(a, b) - (max(k - abs(a - b), 0) ** 2 / (4 * k) if k else 0)


def melting(
    code: int, sizes: tuple[float, ...], center: tuple[float, float, float], k: float, thing: int = 0
):
    row = primitive(code, sizes, center=center)
    row[25], row[26], row[27] = k, thing, 1
    return row


def test_parts_of_one_thing_melt_by_the_closed_form_and_are_never_farther_than_the_sharp_ones() -> None:
    k = 0.3
    rows = np.stack(
        [
            melting(SPHERE, (0.5,), (0.0, 0.0, 0.0), k),
            primitive(BOX, (0.2, 0.2, 0.2, 0.02), center=(0.0, 0.6, 0.3)),  # A sharp part between them.
            melting(SPHERE, (0.4,), (0.6, 0.0, 0.1), k),
            melting(TORUS, (0.5, 0.1), (0.0, 0.2, -0.3), k),
            melting(SPHERE, (0.3,), (-0.5, -0.3, 0.2), 0.2, thing=1),
            melting(SPHERE, (0.3,), (-0.7, -0.3, 0.4), 0.2, thing=1),
        ]
    )
    melted = sharp = 0
    for point in np.random.default_rng(0).uniform(-1.2, 1.2, (3000, 3)):
        a, box, b, c, d, e = (distance(row, *point) for row in rows)
        first = smooth_minimum(smooth_minimum(a, b, k), c, k)
        second = smooth_minimum(d, e, 0.2)
        found, index = nearest(rows, np.arange(6), 6, *point)
        assert found == pytest.approx(min(first, second, box), abs=1e-5)
        hard = min(a, b, c, d, e, box)
        # Lower by a quarter of the radius at most for each of the parts that join.
        assert hard - 0.5 * k - 1e-6 <= found <= hard + 1e-6
        melted, sharp = melted + (found < hard - 1e-3), sharp + (abs(found - hard) < 1e-6)
        # The part that it is of is the nearest one of that thing.
        group = [0, 2, 3] if first <= min(second, box) else [4, 5] if second <= box else [1]
        assert index == min(group, key=lambda i: (a, box, b, c, d, e)[i])
    assert melted > 500 and sharp > 500


def test_where_parts_melt_the_shading_is_that_of_the_smooth_surface() -> None:
    """Normals by finite differences of the closed form in float64, at the crease between two balls."""
    k, radius, centers = 0.4, 0.5, np.array([[0.0, -0.4, 0.0], [0.0, 0.4, 0.0]])
    rows = np.stack([melting(SPHERE, (radius,), tuple(center), k) for center in centers])

    def truth(p: np.ndarray) -> float:
        return smooth_minimum(*(np.linalg.norm(p - center) - radius for center in centers), k)

    for direction in ([1.0, 0.0, 0.0], [0.8, 0.1, 0.6], [0.6, -0.2, -0.5]):
        unit = np.array(direction) / np.linalg.norm(direction)
        low, high = 0.1, 1.5
        for _ in range(60):
            low, high = (
                ((low + high) / 2, high) if truth((low + high) / 2 * unit) < 0 else (low, (low + high) / 2)
            )
        point = low * unit
        assert (
            min(np.linalg.norm(point - center) for center in centers) > radius + 0.02
        )  # Between them, on neither.
        gradient = np.array([truth(point + e) - truth(point - e) for e in 1e-5 * np.eye(3)])
        normal = gradient / np.linalg.norm(gradient)
        sky = min(max(truth(point + 0.15 * normal) / 0.15, 0), 1)
        sun = max(normal @ [0.48, 0.34, 0.81], 0)
        light = (0.50 + 0.12 * normal[2]) * (0.55 + 0.45 * sky) + 0.40 * sun
        azimuth = math.degrees(math.atan2(normal[1], normal[0]))
        camera = orbit(azimuth, math.degrees(math.asin(normal[2])), 2.5, 1, 1, 1, target=point.tolist())
        layers = render_layers(rows, camera.viewmats.numpy(), camera.Ks.numpy(), 1, 1, 1)[0, 0, 0]
        assert layers[0] == pytest.approx(light, abs=0.01) and layers[7] == 1


# Layers


def painted(scene: Scene, seed: int) -> np.ndarray:
    """A scene whose things have colors that nothing else has."""
    rows = build(scene, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    for number in range(len(scene.things)):
        own = (rows[:, 26] == number) & (rows[:, 27] > 0)
        rows[own, 17:20], rows[own, 21:24] = rng.uniform(0, 1, (2, 3))
    return rows


PAINTED = [
    Scene((Thing("cat", "red", "striped"),)),
    Scene((Thing("house", "red", "dotted"), Thing("teddy bear", "blue", "striped")), "next to"),
    Scene((Thing("mug", "red", "dotted"), Thing("table", "blue")), "on"),
    Scene((Thing("duck", "red", "striped"),), ground="water"),
]


@pytest.mark.parametrize("scene", PAINTED, ids=lambda scene: scene.name.replace(" ", "-"))
def test_a_picture_is_the_sum_of_its_layers_in_their_colors(scene: Scene) -> None:
    """Against colors that are mixed ray by ray, as those of fixed parts are."""
    rows, camera = painted(scene, 3), orbit([20, -110], [10, 50], 3.2, 40, 24, 24)
    fixed = rows.copy()
    fixed[:, 27] = 0
    np.testing.assert_allclose(trace(rows, camera), trace(fixed, camera), atol=1e-6)
    layers = render_layers(rows, camera.viewmats.numpy(), camera.Ks.numpy(), 24, 24)
    assert layers.shape == (2, 24, 24, LAYERS) and layers.min() >= 0
    assert not layers[..., 2 * len(scene.things) : 4].any()
    for number, thing in enumerate(scene.things):
        assert layers[..., 2 * number].any() and layers[..., 2 * number + 1].any() == (
            thing.finish != "plain"
        )
    # A thing in black adds nothing, and its share is the one that is lost.
    rows[(rows[:, 26] == 0) & (rows[:, 27] > 0), 17:20] = 0
    lost = trace(fixed, camera) - trace(rows, camera)
    np.testing.assert_allclose(lost[..., :3], layers[..., :1] * own_colors(painted(scene, 3))[0], atol=1e-6)


def test_no_picture_is_brighter_than_its_coverage() -> None:
    cameras = orbit([0, 35, 120, -100], [10, 80, 30, -10], 3.2, 40, 24, 24)
    for kind in KINDS:
        rows = build(Scene((Thing(kind, "white"),), ground="snow"), np.random.default_rng(0))
        rows[:, 17:20] = rows[:, 21:24] = 1
        picture = trace(rows, cameras)
        assert (picture[..., :3] <= picture[..., 3:] + 1e-6).all(), kind
        assert picture[..., :3].max() > 0.8, kind


# Letting one scene down on another


def lowered(upper: np.ndarray, lower: np.ndarray, reach: float = 0.7, columns: int = 56) -> float:
    return primitives.fall(upper[None], lower[None], reach, columns)


def test_a_box_falls_by_the_distance_from_its_floor_to_the_other_ones_top() -> None:
    lower = primitive(BOX, (0.5, 0.4, 0.3, 0.02), center=(0, 0, -0.5))
    for height in (-0.1, 0.4, 0.9):
        upper = primitive(BOX, (0.2, 0.3, 0.1, 0.02), center=(0.1, -0.05, height))
        # A march ends at most 0.001 before either surface, so the fall is up to 0.002 short.
        assert lowered(upper, lower) == pytest.approx((height - 0.1) - (-0.5 + 0.3) - 0.001, abs=0.0012)


def test_a_box_that_is_in_another_is_lifted() -> None:
    lower = primitive(BOX, (0.5, 0.5, 0.5, 0.02))
    assert lowered(primitive(BOX, (0.3, 0.3, 0.3, 0.02), center=(0, 0, 0.6)), lower) == pytest.approx(
        -0.2, abs=0.0025
    )


@pytest.mark.parametrize("aside", [0.0, 0.2, 0.5])
def test_a_ball_falls_until_the_centers_are_two_radii_apart(aside: float) -> None:
    big, small = 0.5, 0.3
    upper = primitive(SPHERE, (small,), center=(aside, 0, 1.5))
    lower = primitive(SPHERE, (big,), center=(0, 0, -0.2))
    expected = 1.7 - math.sqrt((big + small) ** 2 - aside**2)
    # Columns 0.025 apart pass at most 0.018 beside the point of contact, where the gap grows by the square.
    assert expected - 0.004 < lowered(upper, lower) < expected + 0.002


def test_columns_stand_in_the_middles_of_a_grid_over_the_reach() -> None:
    """Of 8 x 8 columns within 0.7 the nearest to the axis is at (0.0875, 0.0875): a ball's gap there is known."""
    upper, lower = primitive(SPHERE, (0.3,), center=(0, 0, 1.5)), primitive(SPHERE, (0.5,))
    aside = 2 * 0.0875**2
    expected = 1.5 - math.sqrt(0.3**2 - aside) - math.sqrt(0.5**2 - aside)
    assert lowered(upper, lower, columns=8) == pytest.approx(expected - 0.001, abs=0.0015)
    assert expected > 0.7 + 0.03  # Far from the fall between all columns.


def test_a_ball_goes_down_into_a_ring_until_it_touches_the_tube_on_the_inside() -> None:
    ring, tube, radius = 0.4, 0.12, 0.45
    upper, lower = primitive(SPHERE, (radius,), center=(0, 0, 1.0)), primitive(TORUS, (ring, tube))
    touching = math.sqrt((radius + tube) ** 2 - ring**2)  # Height of the ball's center.
    assert lowered(upper, lower) == pytest.approx(1.0 - touching, abs=0.005)


def test_scenes_of_several_primitives_meet_where_the_first_two_do() -> None:
    """A table over a post: the top meets the post before the legs meet the floor, or the legs before the top."""
    legs = [primitive(BOX, (0.05, 0.05, 0.3, 0.01), center=(x, 0, 0.3)) for x in (-0.5, 0.5)]
    table = np.stack([*legs, primitive(BOX, (0.6, 0.3, 0.05, 0.01), center=(0, 0, 0.65))])
    floor = primitive(BOX, (0.69, 0.69, 0.1, 0.01), center=(0, 0, -1.0))
    for height, expected in ((0.4, 0.9), (0.8, 0.7)):
        post = primitive(BOX, (0.1, 0.1, height / 2, 0.01), center=(0, 0, -0.9 + height / 2))
        found = primitives.fall(table, np.stack([floor, post]), 0.7, 56)
        assert found == pytest.approx(expected, abs=0.0025)


def test_what_never_meets_falls_without_end() -> None:
    left, right = (primitive(BOX, (0.1, 0.1, 0.1, 0.01), center=(x, 0, 0)) for x in (-0.3, 0.3))
    assert lowered(left, right) == 1e9
    ring, ball = primitive(TORUS, (0.4, 0.1)), primitive(SPHERE, (0.2,), center=(0, 0, 1.0))
    assert lowered(ball, ring) == 1e9  # It goes through the hole,
    assert lowered(ring, ball) == 1e9  # and the ring goes around it.
    # Two balls that meet at 0.4 to 0.6 from the axis, seen only by columns that go as far.
    two = [primitive(SPHERE, (0.1,), center=(0.5, 0, z)) for z in (0.0, 1.0)]
    assert lowered(two[1], two[0], reach=0.3) == 1e9
    assert lowered(two[1], two[0]) == pytest.approx(0.8, abs=0.004)


# Silhouettes


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (0.2, -0.5, 0.3)])
def test_a_sphere_covers_exactly_the_rays_within_its_cone(center: tuple[float, float, float]) -> None:
    radius, size = 0.45, 96
    cameras = orbit(35, 20, 3.2, 40, size, size)
    alpha = trace(primitive(SPHERE, (radius,), center=center)[None], cameras, supersample=1)[0, ..., 3]
    eye = cameras.positions[0].double().numpy()
    view, K = cameras.viewmats[0].double().numpy(), cameras.Ks[0].double().numpy()
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    rays = (
        np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], axis=-1) @ view[:3, :3]
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    to_center = np.array(center) - eye
    along = rays @ to_center
    passing = np.sqrt(to_center @ to_center - along**2)  # How near each ray comes to the center.
    clear = np.abs(passing - radius) > 0.002  # The march ends 0.001 before the surface.
    assert clear.mean() > 0.98
    assert np.array_equal(alpha[clear], (passing < radius)[clear].astype(np.float32))


def test_coverage_adds_up_to_the_area_of_the_projected_sphere() -> None:
    radius, distance_, size = 0.6, 3.2, 128
    cameras = orbit(-60, 30, distance_, 40, size, size)
    alpha = trace(primitive(SPHERE, (radius,))[None], cameras, supersample=4)[0, ..., 3]
    focal = size / 2 / math.tan(math.radians(20))
    # A centerd sphere's outline is a circle of tangent angle asin(radius / distance).
    outline = focal * radius / math.sqrt(distance_**2 - radius**2)
    assert alpha.sum() == pytest.approx(math.pi * outline**2, rel=0.005)


def test_nothing_is_drawn_behind_the_camera_or_off_the_picture() -> None:
    cameras = orbit(0, 0, 3.2, 40, 16, 16)
    behind = primitive(SPHERE, (0.3,), center=(5.0, 0, 0))[None]
    assert not trace(behind, cameras).any()
    assert trace(primitive(SPHERE, (0.3,), center=(-5.0, 0, 0))[None], cameras).any()


def test_the_nearer_thing_hides_the_farther_one() -> None:
    red = primitive(SPHERE, (0.3,), center=(0.6, 0, 0), color=(1, 0, 0))
    blue = primitive(SPHERE, (0.3,), center=(-0.6, 0, 0), color=(0, 0, 1))
    front, back = trace(np.stack([blue, red]), orbit([0, 180], 0, 3.2, 40, 17, 17))[:, 8, 8]
    assert front[0] > 0.2 and front[2] == 0
    assert back[2] > 0.2 and back[0] == 0


# Finishes


def share(
    row: np.ndarray, points: np.ndarray, normal: tuple[float, float, float] = (1.0, 0.0, 0.0)
) -> np.ndarray:
    return np.array([second_share(row, *point, *normal) for point in points])


def finished(finish: int, period: float, **options) -> np.ndarray:
    row = primitive(BOX, (1.0, 1.0, 1.0, 0.01), **options)
    row[20], row[21:24], row[24] = finish, (0, 0, 1), period
    return row


def across(*axes: int, count: int = 3000) -> np.ndarray:
    """Random points of the cube whose coordinates other than `axes` are 0."""
    points = np.zeros((count, 3))
    points[:, axes] = np.random.default_rng(0).uniform(-1, 1, (count, len(axes)))
    return points


def test_plain_has_one_color() -> None:
    assert not share(finished(PLAIN, 1.0), across(0, 1, 2)).any()


def test_stripes_are_the_lower_halves_of_each_period_along_the_primitives_own_axis() -> None:
    points = across(0, 1, 2)
    assert np.array_equal(share(finished(STRIPED, 0.4), points), points[:, 2] / 0.4 % 1 < 0.5)
    lying = finished(
        STRIPED, 0.4, rotation=np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0.0]]), center=(0.1, 0, 0)
    )
    assert np.array_equal(share(lying, points), (points[:, 0] - 0.1) / 0.4 % 1 < 0.5)


@pytest.mark.parametrize(
    "normal, u, v", [((1.0, 0.0, 0.0), 1, 2), ((0.2, -1.0, 0.3), 0, 2), ((0.0, 0.3, -0.9), 0, 1)]
)
def test_dots_are_discs_of_a_hexagonal_lattice_on_the_side_that_is_faced(normal, u: int, v: int) -> None:
    row, period, radius = finished(DOTTED, 0.5), 0.5, math.sqrt(0.085)
    lattice = np.array([(i + 0.5 * (j % 2), 0.866 * j) for i in range(-5, 6) for j in range(-5, 6)]) * period
    points = across(0, 1, 2)  # The coordinate along the normal does not matter.
    nearest = np.linalg.norm(points[:, None, [u, v]] - lattice, axis=2).min(axis=1)
    clear = np.abs(nearest - radius * period) > 1e-4
    assert np.array_equal(share(row, points, normal)[clear], nearest[clear] < radius * period)
    # A dot has six neighbors at the same distance, one period away.
    around = np.sort(np.linalg.norm(lattice[np.abs(lattice).max(axis=1) > 0], axis=1))
    np.testing.assert_allclose(around[:6], period, rtol=1e-3)
    assert around[6] > 1.5 * period


def test_planks_have_a_dark_seam_in_each_period_and_one_shade_in_between() -> None:
    points = across(0, 1)
    shares, board, at = share(finished(PLANKS, 0.25), points), points[:, 1] // 0.25, points[:, 1] / 0.25 % 1
    assert (shares[at < 0.0999] == 1).all()
    shades = [np.unique(shares[(board == number) & (at > 0.1001)]) for number in np.unique(board)]
    assert len(shades) == 8 and all(len(shade) == 1 and 0 <= shade[0] < 0.35 for shade in shades)
    assert len(np.unique(shades)) > 4


def test_mottles_are_cells_of_one_shade_each_that_are_spread_evenly() -> None:
    points = across(0, 1, count=6000)
    shares = share(finished(MOTTLED, 0.25), points)
    cells, number = np.unique(np.floor(points / 0.25), axis=0, return_inverse=True)
    shades = [np.unique(shares[number.ravel() == cell]) for cell in range(len(cells))]
    assert len(shades) == 64 and all(len(shade) == 1 for shade in shades)
    assert 0 <= np.min(shades) < 0.1 and 0.9 < np.max(shades) < 1 and 0.35 < np.mean(shades) < 0.65


def test_ripples_go_smoothly_from_one_color_to_the_other_and_repeat() -> None:
    points = across(0, 1)
    row = finished(RIPPLED, 0.25)
    shares = share(row, points)
    assert 0 <= shares.min() < 0.01 and 0.99 < shares.max() <= 1
    np.testing.assert_allclose(share(row, points + [0.25, 0, 0]), shares, atol=1e-3)
    np.testing.assert_allclose(share(row, points + [1e-4, 1e-4, 0]), shares, atol=4e-3)


def test_pixels_blend_the_two_colors_by_the_share() -> None:
    striped = finished(STRIPED, 0.4, color=(1.0, 0, 0))
    plain = primitive(BOX, (1.0, 1.0, 1.0, 0.01), color=(1.0, 0, 0))
    for z, shown in ((0.1, 2), (0.3, 0)):
        light = color_of(plain[None], np.array([1, 0, z]), [0], [0.0])[0, 0]
        expected = np.zeros(3)
        expected[shown] = light
        np.testing.assert_allclose(
            color_of(striped[None], np.array([1, 0, z]), [0], [0.0])[0, :3], expected, atol=1e-4
        )


# Shading


def color_of(
    prims: np.ndarray, point: np.ndarray, azimuths: list[float], elevations: list[float]
) -> np.ndarray:
    """[C, 4]: what cameras of one pixel see that are aimed at one point of the surface."""
    cameras = orbit(azimuths, elevations, 2.5, 1, 1, 1, target=point.tolist())
    return trace(prims, cameras, supersample=1)[:, 0, 0]


def test_a_point_of_the_surface_has_one_color_from_wherever_it_is_seen() -> None:
    rng = np.random.default_rng(0)
    upper, lower = prims = build(Scene((Thing("sphere", "orange"), Thing("cube", "purple")), "on"), rng)
    colors = []
    for azimuth in (0, 50, 120, -160, -70):
        normal = np.array([math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth)), 0])
        for point in (upper[1:4] + upper[13] * normal, lower[1:4] + lower[13] * np.eye(3)[0]):
            facing = azimuth if point[2] > 0 else 0
            seen = color_of(
                prims, point, [facing - 40, facing, facing + 30, facing + 10], [0.0, 5.0, 20.0, 45.0]
            )
            assert (seen[:, 3] == 1).all()
            np.testing.assert_allclose(seen, seen[:1].repeat(4, axis=0), atol=0.01)
            colors.append(seen[0])
    assert np.std(colors, axis=0)[0] > 0.05  # The points differ from one another, so the test can fail.


def test_a_lone_sphere_is_shaded_by_its_true_normal() -> None:
    """Nothing hides the sky of a convex solid, so the shading has a closed form: sky from above, sun from `_LIGHT`."""
    sun = np.array([0.48, 0.34, 0.81])
    assert np.linalg.norm(sun) == pytest.approx(1, abs=0.01)
    color = np.array([0.5, 0.25, 0.75])
    prims = primitive(SPHERE, (0.8,), color=tuple(color))[None]
    for azimuth, elevation in [(0, 0), (35, 50), (90, 20), (180, 0), (-120, -40)]:
        a, e = math.radians(azimuth), math.radians(elevation)
        normal = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        seen = color_of(prims, 0.8 * normal, [azimuth], [elevation])[0, :3]
        light = 0.50 + 0.12 * normal[2] + 0.40 * max(normal @ sun, 0)
        np.testing.assert_allclose(seen, color * light, atol=0.005)


def test_an_ellipsoid_is_shaded_by_its_true_normal() -> None:
    """The normal of an ellipsoid is the gradient (x / a^2, y / b^2, z / c^2), though its distance is only a bound."""
    sun, radii = np.array([0.48, 0.34, 0.81]), np.array([0.8, 0.4, 0.6])
    prims = primitive(ELLIPSOID, tuple(radii), color=(0.5, 0.25, 0.75))[None]
    for azimuth, elevation in [(0, 0), (35, 50), (90, 20), (-120, -40)]:
        a, e = math.radians(azimuth), math.radians(elevation)
        normal = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        point = radii**2 * normal / np.linalg.norm(radii * normal)  # Where the surface has this normal.
        seen = color_of(prims, point, [azimuth], [elevation])[0, :3]
        light = 0.50 + 0.12 * normal[2] + 0.40 * max(normal @ sun, 0)
        np.testing.assert_allclose(seen, np.array([0.5, 0.25, 0.75]) * light, atol=0.005)


def test_a_neighbor_darkens_the_surface_near_it() -> None:
    ball = primitive(SPHERE, (0.5,), center=(0, 0, -0.5))
    wall = primitive(BOX, (0.3, 0.3, 0.3, 0.01), center=(0.85, 0, -0.5))
    # The point of the ball that looks at the wall, 0.05 away from it, is seen from the side.
    point = np.array([0.45, 0.0, -0.5 + math.sqrt(0.5**2 - 0.45**2)])
    alone, beside = (color_of(prims, point, [90], [60])[0] for prims in (ball[None], np.stack([ball, wall])))
    assert beside[3] == alone[3] == 1
    assert (beside[:3] < 0.9 * alone[:3]).all()


# What pixels mean


def test_pixels_are_means_of_their_rays_with_color_multiplied_by_coverage() -> None:
    prims = build(Scene((Thing("cone", "green"), Thing("torus", "red")), "next to"), np.random.default_rng(0))
    cameras = orbit([20, -130], [10, 60], 3.2, 40, 24, 20)
    picture = trace(prims, cameras, supersample=2)
    rays = trace(prims, cameras.resized(48, 40), supersample=1)
    assert set(np.unique(rays[..., 3])) == {0, 1}
    assert not rays[rays[..., 3] == 0].any()
    mean = rays.reshape(2, 20, 2, 24, 2, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(picture, mean, atol=2e-3)
    partial = (picture[..., 3] > 0) & (picture[..., 3] < 1)
    assert partial.sum() > 20
    # Premultiplied: no channel is brighter than coverage allows.
    assert (picture[..., :3] <= picture[..., 3:] + 1e-6).all()
