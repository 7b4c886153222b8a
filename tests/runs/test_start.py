"""What a run may start from: splats of any format, a mesh, points; all else is refused in a line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from rfgs.errors import UserError
from rfgs.export import export
from rfgs.runs.start import OPACITY, RADIUS, read_start
from rfgs.splats import ball


def test_splats_of_our_own_stay_as_they_are(tmp_path: Path) -> None:
    splats = ball(50, 0.8, generator=torch.Generator().manual_seed(0))
    export(splats.with_sh_degree(1), tmp_path / "splats.ply")
    for path in (tmp_path, tmp_path / "splats.ply"):
        start = read_start(path, 9)
        assert torch.allclose(start.means, splats.means, atol=1e-6) and start.sh_degree == 0


def test_splats_from_elsewhere_come_into_the_ball(tmp_path: Path) -> None:
    splats = ball(200, 0.8, generator=torch.Generator().manual_seed(0))
    far = replace(splats, means=splats.means * 30 + 50, log_scales=splats.log_scales + math.log(30))
    export(far, tmp_path / "far.spz")
    start = read_start(tmp_path / "far.spz", 9)
    assert len(start) == 200 and 0.5 < start.means.norm(dim=-1).max() < 1.1


def test_a_mesh_is_sampled_on_its_surface(tmp_path: Path) -> None:
    box = trimesh.creation.box((2.0, 4.0, 6.0))  # Y is up in the file: 4 high, 6 from front to back.
    box.apply_translation((9, 9, 9))
    box.visual.vertex_colors = np.tile([255, 0, 0, 255], (8, 1))
    for suffix in (".obj", ".glb", ".ply"):
        box.export(tmp_path / f"box{suffix}")
        start = read_start(tmp_path / f"box{suffix}", 3000, seed=1)
        extent = (start.means.amax(dim=0) - start.means.amin(dim=0)) / 2
        sides = torch.tensor([1.0, 2, 3] if suffix == ".ply" else [3.0, 1, 2])
        assert torch.allclose(extent, sides * RADIUS / 14**0.5, atol=0.02)
        on_a_face = ((start.means.abs() - extent).abs() < 1e-3).any(dim=1)
        assert len(start) == 3000 and on_a_face.float().mean() > 0.95
        assert torch.allclose(start.colors.mean(dim=0), torch.tensor([1.0, 0, 0]), atol=0.01)
        assert start.opacities[0] == pytest.approx(OPACITY)
        # Neighbors overlap, and no more than that.
        nearest = torch.cdist(start.means, start.means).fill_diagonal_(9).amin(dim=1).mean()
        assert 0.5 < float(start.scales[0, 0] / nearest) < 2
    grey = trimesh.creation.box((2.0, 2.0, 2.0))
    grey.visual.vertex_colors = np.tile(
        [55, 55, 55, 255], (8, 1)
    )  # In linear light, as glTF has it: 0.5 in sRGB.
    grey.export(tmp_path / "grey.glb")
    assert torch.allclose(read_start(tmp_path / "grey.glb", 20).colors, torch.full((20, 3), 0.5), atol=0.01)
    assert torch.equal(start.means, read_start(tmp_path / "box.ply", 3000, seed=1).means)


def test_a_cloud_of_points(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(500, 3))
    colors = np.tile([0, 0, 255, 255], (500, 1))
    trimesh.PointCloud(points, colors).export(tmp_path / "cloud.ply")
    for count, found in ((200, 200), (900, 500)):
        start = read_start(tmp_path / "cloud.ply", count)
        assert len(start) == found and start.means.norm(dim=-1).max() <= RADIUS + 1e-5
        assert torch.allclose(start.colors, torch.tensor([0.0, 0, 1]), atol=1e-5)


@pytest.mark.parametrize(
    "name", ["a.ply", "a.glb", "a.obj", "a.stl", "a.spz", "a.txt", "none.obj", "none.ply", "none"]
)
def test_what_cannot_be_read_is_a_line(tmp_path: Path, name: str) -> None:
    if name.startswith("a"):
        (tmp_path / name).write_bytes(b"no such thing\n\0\xff")
    with pytest.raises(UserError) as caught:
        read_start(tmp_path / name, 9)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
