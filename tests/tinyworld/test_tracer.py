"""The tracer against closed forms: distances, silhouettes, shading; and what its pixels mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rfgs.cameras import Cameras, orbit
from rfgs.tinyworld.scenes import Scene, Thing, all_scenes, build
from rfgs.tinyworld.tracer import (
    BOX,
    CONE,
    CYLINDER,
    PRIMITIVE_WIDTH,
    SPHERE,
    TORUS,
    render_scene,
    scene_bound,
)
from rfgs.tinyworld.tracer import _distance as distance


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
    """Distance in the half plane to the nearest of very many points along `outline` [K, 2], negative where `inside`."""
    pieces = [np.linspace(a, b, 20_000) for a, b in zip(outline[:-1], outline[1:], strict=True)]
    points = np.concatenate(pieces)
    nearest = np.array([np.hypot(*(points - q).T).min() for q in np.stack([rho, z], axis=1)])
    return np.where(inside, -nearest, nearest)


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


TRUTHS = {
    "sphere": (SPHERE, (0.7,), lambda p, sizes: np.linalg.norm(p, axis=1) - sizes[0]),
    "box": (BOX, (0.6, 0.5, 0.3, 0.06), true_box),
    "cylinder": (CYLINDER, (0.5, 0.7, 0.05), true_cylinder),
    "cone": (CONE, (0.7, 0.6, 0.04), true_cone),
    "torus": (TORUS, (0.6, 0.22), true_torus),
}


@pytest.mark.parametrize("shape", TRUTHS)
def test_distance_is_the_true_one_with_its_sign_wherever_the_primitive_stands(shape: str) -> None:
    code, sizes, truth = TRUTHS[shape]
    rng = np.random.default_rng(0)
    center, rotation = rng.uniform(-0.3, 0.3, 3), random_rotation(rng)
    row = primitive(code, sizes, center=center, rotation=rotation)
    local = rng.uniform(-1.2, 1.2, (200, 3)) * np.repeat([1, 0.6], 100)[:, None]  # Half of them near it.
    expected = truth(local, sizes)
    assert (expected < -0.01).sum() > 15 and (expected > 0.01).sum() > 100  # Both signs are tried.
    world = local @ rotation + center  # The inverse of local = rotation (world - centre).
    found = [distance(row, *point) for point in world]
    np.testing.assert_allclose(found, expected, atol=5e-5)


def test_the_bound_holds_every_scene() -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(100, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for scene in all_scenes()[::41]:
        prims = build(scene, rng)
        bound = scene_bound(prims)
        assert all(distance(row, *(bound * d)) > -1e-6 for row in prims for d in directions), scene.name


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
    passing = np.sqrt(to_center @ to_center - along**2)  # How near each ray comes to the centre.
    clear = np.abs(passing - radius) > 0.002  # The march ends 0.001 before the surface.
    assert clear.mean() > 0.98
    assert np.array_equal(alpha[clear], (passing < radius)[clear].astype(np.float32))


def test_coverage_adds_up_to_the_area_of_the_projected_sphere() -> None:
    radius, distance_, size = 0.6, 3.2, 128
    cameras = orbit(-60, 30, distance_, 40, size, size)
    alpha = trace(primitive(SPHERE, (radius,))[None], cameras, supersample=4)[0, ..., 3]
    focal = size / 2 / math.tan(math.radians(20))
    # A centred sphere's outline is a circle of tangent angle asin(radius / distance).
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


# Shading


def colour_of(
    prims: np.ndarray, point: np.ndarray, azimuths: list[float], elevations: list[float]
) -> np.ndarray:
    """[C, 4]: what cameras of one pixel see that are aimed at one point of the surface."""
    cameras = orbit(azimuths, elevations, 2.5, 1, 1, 1, target=point.tolist())
    return trace(prims, cameras, supersample=1)[:, 0, 0]


def test_a_point_of_the_surface_has_one_colour_from_wherever_it_is_seen() -> None:
    rng = np.random.default_rng(0)
    upper, lower = prims = build(Scene((Thing("sphere", "orange"), Thing("cube", "purple")), "on"), rng)
    colours = []
    for azimuth in (0, 50, 120, -160, -70):
        normal = np.array([math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth)), 0])
        for point in (upper[1:4] + upper[13] * normal, lower[1:4] + lower[13] * np.eye(3)[0]):
            facing = azimuth if point[2] > 0 else 0
            seen = colour_of(
                prims, point, [facing - 40, facing, facing + 30, facing + 10], [0.0, 5.0, 20.0, 45.0]
            )
            assert (seen[:, 3] == 1).all()
            np.testing.assert_allclose(seen, seen[:1].repeat(4, axis=0), atol=0.01)
            colours.append(seen[0])
    assert np.std(colours, axis=0)[0] > 0.05  # The points differ from one another, so the test can fail.


def test_a_lone_sphere_is_shaded_by_its_true_normal() -> None:
    """Nothing hides the sky of a convex solid, so the shading has a closed form: sky from above, sun from `_LIGHT`."""
    sun = np.array([0.48, 0.34, 0.81])
    assert np.linalg.norm(sun) == pytest.approx(1, abs=0.01)
    color = np.array([0.5, 0.25, 0.75])
    prims = primitive(SPHERE, (0.8,), color=tuple(color))[None]
    for azimuth, elevation in [(0, 0), (35, 50), (90, 20), (180, 0), (-120, -40)]:
        a, e = math.radians(azimuth), math.radians(elevation)
        normal = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        seen = colour_of(prims, 0.8 * normal, [azimuth], [elevation])[0, :3]
        light = 0.54 + 0.14 * normal[2] + 0.44 * max(normal @ sun, 0)
        np.testing.assert_allclose(seen, color * light, atol=0.005)


def test_a_neighbour_darkens_the_surface_near_it() -> None:
    ball = primitive(SPHERE, (0.5,), center=(0, 0, -0.5))
    wall = primitive(BOX, (0.3, 0.3, 0.3, 0.01), center=(0.85, 0, -0.5))
    # The point of the ball that looks at the wall, 0.05 away from it, is seen from the side.
    point = np.array([0.45, 0.0, -0.5 + math.sqrt(0.5**2 - 0.45**2)])
    alone, beside = (colour_of(prims, point, [90], [60])[0] for prims in (ball[None], np.stack([ball, wall])))
    assert beside[3] == alone[3] == 1
    assert (beside[:3] < 0.9 * alone[:3]).all()


# What pixels mean


def test_pixels_are_means_of_their_rays_with_colour_multiplied_by_coverage() -> None:
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
    # Premultiplied: no channel is brighter than coverage allows (none of these colours is lit beyond white).
    assert (picture[..., :3] <= picture[..., 3:] + 1e-6).all()
