import math

import numpy as np
import pytest
import torch

pytest.importorskip("skimage")
import trimesh

from rfgs.errors import UserError
from rfgs.export import comments_of, export
from rfgs.export.mesh import Mesh, mesh_of
from rfgs.render import render
from rfgs.render.cameras import orbit
from rfgs.splats import SH_C0, Splats, ball

QUICK = {"resolution": 48, "views": 24, "size": 96}


SIZE = 0.035


def colored(points: torch.Tensor) -> Splats:
    """Opaque round splats, colored by where they are, a little below the surface, as splats that were fitted to pictures are."""
    return Splats(
        means=points,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(len(points), 1),
        log_scales=torch.full((len(points), 3), SIZE).log(),
        logit_opacities=torch.full((len(points),), 3.0),
        sh0=((points * 0.5).clamp(-0.5, 0.5) / SH_C0)[:, None],
    )


def sphere(radius: float = 0.6) -> Splats:
    generator = torch.Generator().manual_seed(0)
    return colored(
        (radius - SIZE) * torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator), dim=-1)
    )


def cube(half: float = 0.5) -> Splats:
    generator = torch.Generator().manual_seed(0)
    points = (2 * torch.rand(2400, 3, generator=generator) - 1) * (half - SIZE)
    rows, side = torch.arange(2400), torch.arange(2400) % 6
    points[rows, side // 2] = (side % 2 * 2.0 - 1) * (half - SIZE)
    return colored(points)


@pytest.fixture(scope="module")
def ball_mesh() -> Mesh:
    return mesh_of(sphere(), **QUICK)


@pytest.fixture(scope="module")
def skin() -> float:
    """How much larger than 0.6 a picture shows the sphere, by where it is half transparent."""
    alpha = render(sphere(), orbit(0, 0, 3.2, 40, 200, 200)).alpha
    tangent = math.sqrt(int((alpha > 0.5).sum()) / math.pi) * math.tan(math.radians(20)) / 100
    return 3.2 * math.sin(math.atan(tangent)) - 0.6


def test_a_sphere(ball_mesh: Mesh, skin: float):
    radii = np.linalg.norm(ball_mesh.vertices, axis=1)
    assert np.quantile(np.abs(radii - 0.6 - skin), 0.95) <= 0.04  # Less than a cell, which is 0.05 here.
    solid = trimesh.Trimesh(ball_mesh.vertices, ball_mesh.faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent
    assert solid.volume == pytest.approx(
        4 / 3 * np.pi * (0.6 + skin) ** 3, rel=0.1
    )  # Positive: seen from outside.
    assert (ball_mesh.normals * ball_mesh.vertices).sum(axis=1).min() > 0.3
    assert np.abs(ball_mesh.colors - (0.5 + 0.5 * ball_mesh.vertices)).mean() < 0.03


def test_a_cube_elsewhere(skin: float):
    splats = cube()
    splats.means = splats.means * 20 + torch.tensor([100.0, 0, 0])
    splats.log_scales += np.log(20)
    mesh = mesh_of(splats, resolution=64, views=30, size=128)
    largest = np.abs((mesh.vertices - np.float32([100, 0, 0])) / 20).max(axis=1)
    assert np.quantile(np.abs(largest - 0.5 - skin), 0.95) <= 0.04


def test_nothing_opaque():
    fog = ball(100, 0.5, generator=torch.Generator().manual_seed(0), opacity=0.06, scale=0.02)
    with pytest.raises(UserError, match="no surface for a mesh"):
        mesh_of(fog, **QUICK)


@pytest.mark.parametrize("suffix", [".obj", ".mesh.ply", ".mesh.glb"])
def test_files_in_another_reader(tmp_path, monkeypatch, suffix):
    one = Mesh(
        vertices=np.float32([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]),
        faces=np.int32([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]),
        normals=np.float32([[-1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        colors=np.float32([[1, 0, 0], [0, 0.5, 0], [0, 0, 1], [0.2, 0.2, 0.2]]),
    )
    monkeypatch.setattr("rfgs.export.mesh_files.mesh_of", lambda splats: one)
    path = tmp_path / f"a{suffix}"
    export(sphere(), path, comments=["prompt: a café"])
    loaded = trimesh.load(path, process=False)
    if suffix == ".mesh.glb":
        (loaded,) = loaded.geometry.values()
    # A PLY keeps our axes, with Z up; the other two have Y up, which is our Z, and Z to the front, which is our X.
    expected = one.vertices if suffix == ".mesh.ply" else one.vertices[:, [1, 2, 0]]
    np.testing.assert_allclose(loaded.vertices, expected)
    np.testing.assert_array_equal(loaded.faces, one.faces)
    assert loaded.is_watertight and loaded.volume == pytest.approx(1)
    attributes = getattr(loaded.visual, "vertex_attributes", None)
    shades = attributes["color"][:, :3] if attributes else loaded.visual.vertex_colors[:, :3] / 255
    linear = np.where(one.colors > 0.04, ((one.colors + 0.055) / 1.055) ** 2.4, 0)
    assert np.abs(shades - (linear if suffix == ".mesh.glb" else one.colors)).max() < 0.01
    if suffix != ".obj":
        assert comments_of(path) == ["prompt: a café"]
