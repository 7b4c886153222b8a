import math

import pytest
import torch

from rfgs.errors import UserError
from rfgs.render.cameras import Cameras, orbit, sample_orbit, turntable, view_words


def project(cameras: Cameras, points: list) -> torch.Tensor:
    """Pixels and depth [C, P, 3] of world points [P, 3], by the textbook pinhole."""
    world = torch.cat([torch.tensor(points, dtype=torch.float32), torch.ones(len(points), 1)], dim=-1)
    seen = torch.einsum("cij,pj->cpi", cameras.viewmats, world)[..., :3]
    pixels = torch.einsum("cij,cpj->cpi", cameras.Ks, seen / seen[..., 2:])
    return torch.cat([pixels[..., :2], seen[..., 2:]], dim=-1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_front_view_lands_on_known_pixels():
    # Half the vertical field of view is 45 degrees, so at distance d a height d reaches the image's edge.
    camera = orbit(0, 0, 4.0, 90, 200, 100)
    up, right, front = project(camera, [[0, 0, 4], [0, 4, 0], [1, 0, 0]])[0]
    torch.testing.assert_close(up, torch.tensor([100.0, 0.0, 4.0]))  # +Z is the top of the image
    torch.testing.assert_close(right, torch.tensor([150.0, 50.0, 4.0]))  # +Y is on the right
    torch.testing.assert_close(front, torch.tensor([100.0, 50.0, 3.0]))  # +X, the front, is nearest


@pytest.mark.parametrize(
    ("azimuth", "elevation", "nearest"),
    [
        (0, 0, (1, 0, 0)),
        (90, 0, (0, 1, 0)),
        (180, 0, (-1, 0, 0)),
        (270, 0, (0, -1, 0)),
        (0, 90, (0, 0, 1)),
        (0, -90, (0, 0, -1)),
    ],
)
def test_nearest_side(azimuth, elevation, nearest):
    sides = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (0, 0, -1)]
    depths = project(orbit(azimuth, elevation, 3.0, 40, 64, 64), sides)[0, :, 2]
    assert sides[int(depths.argmin())] == nearest
    assert depths.min() == pytest.approx(2.0, abs=1e-5)


def test_up_is_up_from_every_azimuth():
    bottom, top = project(
        orbit(torch.arange(0.0, 360, 15), 20, 3.0, 40, 64, 64), [[0, 0, 0], [0, 0, 0.5]]
    ).unbind(1)
    torch.testing.assert_close(top[:, 0], bottom[:, 0], atol=1e-4, rtol=0)
    assert (top[:, 1] < bottom[:, 1] - 5).all()


def test_rotations_are_proper_and_orthonormal():
    cameras = sample_orbit(50, 8, 8, generator=seeded(), elevation_range=(-90, 90))
    rotations = cameras.viewmats[:, :3, :3].double()
    identity = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, identity, atol=3e-7, rtol=0)
    torch.testing.assert_close(
        torch.linalg.det(rotations), torch.ones(50, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_azimuth_and_elevation_round_trip():
    azimuths = torch.tensor([-179.0, -90.0, -1.0, 0.0, 45.0, 135.0, 179.0])
    elevations = torch.tensor([-89.0, -45.0, 0.0, 10.0, 60.0, 80.0, 89.0])
    cameras = orbit(azimuths, elevations, torch.linspace(1, 5, 7), 40, 8, 8)
    torch.testing.assert_close(cameras.azimuths, azimuths, atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.elevations, elevations, atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.positions.norm(dim=-1), torch.linspace(1, 5, 7))


@pytest.mark.parametrize("elevation", [90, -90])
def test_poles_keep_their_azimuth(elevation):
    cameras = orbit([0, 100, -30], elevation, 2.0, 40, 8, 8)
    torch.testing.assert_close(cameras.azimuths, torch.tensor([0.0, 100.0, -30.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.elevations, torch.full((3,), float(elevation)), atol=1e-3, rtol=0)
    near = orbit([0, 100, -30], elevation * 0.99999, 2.0, 40, 8, 8)
    torch.testing.assert_close(cameras.viewmats, near.viewmats, atol=1e-4, rtol=0)


def test_target_is_in_the_middle():
    camera = orbit(70, 30, 2.5, 50, 60, 40, target=(1, 2, 3))
    torch.testing.assert_close(
        project(camera, [[1, 2, 3]])[0, 0], torch.tensor([30.0, 20.0, 2.5]), atol=1e-4, rtol=0
    )


def test_default_view_holds_the_unit_ball():
    camera = turntable(1, 100, 100, elevation=0)
    rim = math.sqrt(1 - 1 / 3.2**2)  # the silhouette of the ball lies on the circle of tangent points
    x, y, _ = project(camera, [[1 / 3.2, 0, rim]])[0, 0].tolist()
    assert 0 < y < 8 and x == pytest.approx(50)


def test_indexing_keeps_the_batch():
    cameras = turntable(6, 8, 8)
    assert len(cameras) == 6 and len(cameras[0]) == 1 and len(cameras[1:3]) == 2 and len(cameras[[0, 5]]) == 2
    assert torch.equal(cameras[-1].viewmats, cameras.viewmats[5:])
    assert torch.equal(cameras[torch.tensor([3])].Ks, cameras.Ks[3:4])


def test_resized_moves_pixels_in_proportion():
    camera = orbit(30, 10, 3, 40, 64, 48)
    points = [[0.3, -0.2, 0.5], [0, 0.7, -0.1]]
    small, large = project(camera, points), project(camera.resized(128, 24), points)
    torch.testing.assert_close(large, small * torch.tensor([2.0, 0.5, 1.0]))
    assert (camera.resized(128, 24).width, camera.resized(128, 24).height) == (128, 24)


def test_sample_orbit_keeps_its_ranges_and_seed():
    ranges = {"elevation_range": (-10, 80), "distance_range": (2, 4), "fov_range": (30, 60)}
    cameras = sample_orbit(400, 64, 64, generator=seeded(), stratified=False, **ranges)
    fovs = 2 * torch.atan(32 / cameras.Ks[:, 1, 1]).rad2deg()
    distances = cameras.positions.norm(dim=-1)
    for values, low, high in [(cameras.elevations, -10, 80), (distances, 2, 4), (fovs, 30, 60)]:
        assert values.min() >= low - 1e-3 and values.max() <= high + 1e-3
        assert values.mean() == pytest.approx((low + high) / 2, abs=(high - low) * 0.06)
    assert abs(torch.corrcoef(torch.stack([cameras.elevations, distances]))[0, 1]) < 0.2
    again = sample_orbit(400, 64, 64, generator=seeded(), stratified=False, **ranges)
    assert torch.equal(cameras.viewmats, again.viewmats)


def test_stratified_views_surround_the_object():
    generator = seeded()
    steps = [sample_orbit(4, 8, 8, generator=generator).azimuths % 360 for _ in range(300)]
    for azimuths in steps[:20]:
        ordered = azimuths.sort().values
        torch.testing.assert_close(ordered.diff(), torch.full((3,), 90.0), atol=1e-2, rtol=0)
    first = torch.stack(steps)[:, 0]
    assert (
        torch.histc(first, 4, 0, 360).min() > 50
    )  # uniform would be 75: the whole circle comes first in turn


def test_turntable_is_one_closed_turn():
    cameras = turntable(8, 8, 8, elevation=20)
    torch.testing.assert_close(cameras.azimuths % 360, torch.arange(0.0, 360, 45), atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.elevations, torch.full((8,), 20.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "word"),
    [
        (29, 15, "front"),
        (-44, 15, "front"),
        (46, 15, "left side"),
        (-90, 60, "right side"),
        (134, 0, "left side"),
        (136, 0, "back"),
        (180, 0, "back"),
        (-180, 0, "back"),
        (225.5, 0, "right side"),
        (316, 0, "front"),
        (720 + 170, 0, "back"),
        (0, 61, "overhead"),
        (180, 89, "overhead"),
    ],
)
def test_view_words(azimuth, elevation, word):
    assert view_words(azimuth, elevation) == [f"{word} view"]


def test_view_words_of_cameras():
    cameras = orbit([0, 90, 180, 0], [0, 0, 0, 80], 3.2, 40, 8, 8)
    assert view_words(cameras.azimuths, cameras.elevations) == [
        "front view",
        "left side view",
        "back view",
        "overhead view",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: orbit(0, 0, 3, 40, 0, 8), "0x8"),
        (lambda: turntable(4, 8, 8).resized(8, -1), "8x-1"),
        (lambda: orbit(0, 91, 3, 40, 8, 8), "elevation.*91"),
        (lambda: orbit(0, float("nan"), 3, 40, 8, 8), "elevation.*nan"),
        (lambda: orbit(0, 0, 0, 40, 8, 8), "distance"),
        (lambda: orbit(0, 0, 3, 180, 8, 8), "fov.*180"),
        (lambda: orbit([0, 1], [0, 1, 2], 3, 40, 8, 8), "lengths 2, 3, 1, 1"),
        (lambda: turntable(0, 8, 8), "frames 0"),
        (lambda: sample_orbit(0, 8, 8, generator=seeded()), "count 0"),
        (lambda: sample_orbit(1, 8, 8, generator=seeded(), fov_range=(50, 40)), r"fov_range \(50, 40\)"),
        (lambda: Cameras(torch.zeros(2, 4, 4), torch.zeros(1, 3, 3), 8, 8), "same C"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
