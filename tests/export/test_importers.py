"""Importers that cannot be run here, by what their sources demand of a PLY: Unity's GaussianSplatting and Blender's 3DGS Render.

Each is read as its own program reads, and no more generously: https://github.com/aras-p/UnityGaussianSplatting
(GaussianFileReader.cs, PLYFileReader.cs) and https://github.com/Kiri-Innovation/3dgs-render-blender-addon (__init__.py, 4.1.3).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rfgs.export import export
from rfgs.export.axes import WORLD_TO_Y_DOWN, rotate
from rfgs.splats import SH_C0, Splats, ball

SIZES = {"float": 4, "double": 8, "uchar": 1}
"""Of the types that Unity's importer knows; another one has no size there, and all behind it is read from the wrong place."""
NEEDED = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
NEEDED += ["rot_0", "rot_1", "rot_2", "rot_3"]
ODD = ["prompt: a property float x", "", "element vertex 7", "two\nlines, the second empty:\n\n", "café"]
"""Comments that a careless header would be broken by."""


def splats_of(degree: int) -> Splats:
    generator = torch.Generator().manual_seed(0)
    splats = ball(50, 0.8, generator=generator, color_spread=0.3)
    splats.quats = torch.nn.functional.normalize(torch.randn(50, 4, generator=generator), dim=1)
    splats.log_scales += torch.randn(50, 3, generator=generator)
    if degree:
        splats.shN = 0.3 * torch.randn(50, (degree + 1) ** 2 - 1, 3, generator=generator)
    return splats


def columns_of(path: Path) -> dict[str, np.ndarray]:
    """By name, the properties of a file as Unity's importer takes them: lines of three words, of whatever element."""
    head, body = path.read_bytes().split(b"\nend_header\n", 1)
    lines = head.decode().split("\n")
    assert all(lines) and len(lines) < 9000 and "format binary_little_endian 1.0" in lines
    words = [line.split(" ") for line in lines]
    (count,) = [int(word[2]) for word in words if len(word) == 3 and word[:2] == ["element", "vertex"]]
    found = [(word[2], word[1]) for word in words if len(word) == 3 and word[0] == "property"]
    assert {kind for _, kind in found} == {"float"}
    rows = np.frombuffer(body, "<f4").reshape(count, len(found))  # No byte more or less.
    return {name: rows[:, index] for index, (name, _) in enumerate(found)}


def check(columns: dict[str, np.ndarray], harmonics: np.ndarray, splats: Splats) -> None:
    """That columns, with higher harmonics [N, K, 3], are these splats."""
    there = rotate(splats, WORLD_TO_Y_DOWN)

    def table(*names: str) -> np.ndarray:
        return np.stack([columns[name] for name in names], axis=1)

    np.testing.assert_allclose(table("x", "y", "z"), there.means.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        np.exp(table("scale_0", "scale_1", "scale_2")), there.scales.numpy(), atol=1e-5
    )
    np.testing.assert_allclose(1 / (1 + np.exp(-columns["opacity"])), there.opacities.numpy(), atol=1e-5)
    colors = table("f_dc_0", "f_dc_1", "f_dc_2") * SH_C0 + 0.5
    np.testing.assert_allclose(colors, there.colors.numpy(), atol=1e-5)
    turns = np.abs((table("rot_0", "rot_1", "rot_2", "rot_3") * there.quats.numpy()).sum(axis=1))
    np.testing.assert_allclose(turns, there.quats.norm(dim=1).numpy(), atol=1e-5)
    if splats.shN is not None and there.shN is not None:
        own = harmonics[:, : splats.shN.shape[1]]
        np.testing.assert_allclose(own, there.shN.numpy(), atol=1e-5)
        harmonics = harmonics[:, splats.shN.shape[1] :]
    assert np.abs(harmonics).max(initial=0) < 1e-6


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_unity(tmp_path: Path, degree: int) -> None:
    splats = splats_of(degree)
    export(splats, tmp_path / "a.ply", sh_degree=3, normals=True, comments=ODD)
    columns = columns_of(tmp_path / "a.ply")
    assert set(NEEDED) <= columns.keys()
    # It takes 15 coefficients of a channel for granted, whatever the file has.
    rest = np.stack([columns[f"f_rest_{index}"] for index in range(45)], axis=1)
    check(columns, rest.reshape(-1, 3, 15).transpose(0, 2, 1), splats)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_blender(tmp_path: Path, degree: int) -> None:
    splats = splats_of(degree)
    export(splats, tmp_path / "a.ply", comments=ODD)
    columns = columns_of(tmp_path / "a.ply")
    assert set(NEEDED) <= columns.keys()
    names = sorted((name for name in columns if name.startswith("f_rest_")), key=lambda name: int(name[7:]))
    assert len(names) in (
        0,
        9,
        24,
        45,
    )  # It goes by their number, and leaves out what is above the next smaller one of these.
    rest = np.stack([columns[name] for name in names], axis=1) if names else np.zeros((50, 0))
    check(columns, rest.reshape(50, 3, -1).transpose(0, 2, 1) if names else np.zeros((50, 0, 3)), splats)
