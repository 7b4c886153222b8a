"""What a run may start from in place of a ball: splats of any format, or a mesh or cloud of points, sampled to splats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rfgs.errors import UserError
from rfgs.export import read
from rfgs.export.axes import WORLD_TO_Y_UP
from rfgs.export.framing import framed
from rfgs.export.glb import EXTENSION
from rfgs.splats import SH_C0, Splats

Y_UP = (".obj", ".glb", ".gltf")
SHAPES = (*Y_UP, ".ply", ".stl", ".off")
"""Suffixes of meshes; a .ply and those after it are taken to have +Z up, as our world."""
RADIUS = 0.9
"""World units: a mesh or cloud is made to reach so far from the origin."""
OPACITY = 0.5
"""Of what is sampled: enough to be seen at once, and little enough to be changed."""


def read_start(path: str | Path, count: int, *, seed: int = 0) -> Splats:
    """The splats to start from, in our ball, without view-dependent colors.

    Splats that are framed as our own assets are (`rfgs.export.framing`) stay where they are; all others are moved and scaled into
    the unit ball.

    Args:
        path: a file of splats, a run's folder, a mesh or a cloud of points.
        count: splats that a mesh or a cloud is sampled to.
        seed: of the samples.

    Raises:
        UserError: there is no such file, it cannot be read, or has nothing in it.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() not in SHAPES or _holds_splats(path):
        return framed(read(path)).with_sh_degree(0)
    points, colors, spacing = _sampled(path, count, np.random.default_rng(seed))
    low, high = points.min(axis=0), points.max(axis=0)
    points = points - (low + high) / 2
    reach = float(np.linalg.norm(points, axis=1).max())
    if not (math.isfinite(reach) and reach > 0):
        raise UserError(f"{path}: all its points are one, or not finite; give another file")
    means = torch.from_numpy((points * (RADIUS / reach)).astype(np.float32))
    if path.suffix.lower() in Y_UP:
        means = means @ WORLD_TO_Y_UP  # Rows: the inverse of the turn that exporters make.
    found = len(means)
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(found, 1),
        log_scales=torch.full((found, 3), math.log(max(spacing * RADIUS / reach, 1e-4))),
        logit_opacities=torch.full((found,), math.log(OPACITY / (1 - OPACITY))),
        sh0=torch.from_numpy(((colors - 0.5) / SH_C0).astype(np.float32))[:, None],
    )


def _holds_splats(path: Path) -> bool:
    """Whether the header of a .ply or .glb names what splats have; where it cannot be read, its reader will tell."""
    if path.suffix.lower() not in (".ply", ".glb"):
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(1 << 16)
    except OSError:
        return True
    if path.suffix.lower() == ".glb":
        return EXTENSION.encode() in start
    header = start.partition(b"end_header")[0]
    return b"f_dc_0" in header or b"packed_position" in header


def _sampled(path: Path, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Points [N, 3], colors [N, 3] in [0, 1], and about half the distance between neighbors, in the file's units."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError(
            f"{path}: reading meshes and points needs trimesh; install it with: pip install 'rfgs[mesh]'"
        ) from error
    if not path.is_file():
        raise UserError(f"{path}: no such file; give splats, a mesh or a cloud of points")
    try:
        shape: Any = trimesh.load(path, process=False)
        linear = path.suffix.lower() in (".glb", ".gltf")
        for one in shape.geometry.values() if isinstance(shape, trimesh.Scene) else [shape]:
            if isinstance(one, trimesh.Trimesh):
                colors = _corner_colors(one, linear)
                one.visual = trimesh.visual.ColorVisuals(
                    one, vertex_colors=np.rint(255 * colors).astype(np.uint8)
                )
        if isinstance(shape, trimesh.Scene):
            shape = shape.to_mesh()
        if isinstance(shape, trimesh.PointCloud):
            points, colors = np.asarray(shape.vertices, np.float64), _cloud_colors(shape)
            if len(points) > count:
                chosen = generator.choice(len(points), count, replace=False)
                points, colors = points[chosen], colors[chosen]
            # As if they covered a ball: surfaces are covered better, and solids as well.
            area = 4 * math.pi * float(np.square(points - points.mean(axis=0)).sum(axis=1).mean())
        else:
            points, colors = _on_surface(shape, count, generator)
            area = float(shape.area)
        if points.shape[1:] != (3,):
            raise ValueError(f"its points have {points[:1].size} coordinates")
    except Exception as error:  # A reader of a dozen formats raises whatever it likes.
        raise UserError(f"{path} cannot be read as a mesh or points: {error}".replace("\n", " ")) from error
    if not len(points):
        raise UserError(f"{path}: has no points; give another file")
    return points, colors, 0.5 * math.sqrt(area / len(points))


def _on_surface(mesh: Any, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over triangles, and their colors, mixed from those of the corners."""
    chosen = generator.choice(len(mesh.faces), count, p=mesh.area_faces / mesh.area_faces.sum())
    weights = generator.dirichlet((1.0, 1.0, 1.0), count)
    corners = mesh.faces[chosen]
    points = np.einsum("nk,nkc->nc", weights, np.asarray(mesh.vertices)[corners])
    shades = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    return points, np.einsum("nk,nkc->nc", weights, shades[corners])


def _corner_colors(mesh: Any, linear: bool) -> np.ndarray:
    """Display sRGB in [0, 1] at the corners of a mesh, [V, 3], from whatever it has; grey where it has none.

    Args:
        linear: whether colors at corners are in linear light, as in glTF. Textures never are.
    """
    visual = mesh.visual
    colors = dict(getattr(visual, "vertex_attributes", None) or {}).get("color")
    if colors is None and visual.kind == "texture":
        colors, linear = visual.to_color().vertex_colors, False
    elif colors is None:
        colors = visual.vertex_colors
    found = np.asarray(colors)
    found = found[:, :3] / (255 if found.dtype.kind in "ui" else 1)
    if linear:
        found = np.where(found <= 0.0031308, 12.92 * found, 1.055 * found.clip(0.003) ** (1 / 2.4) - 0.055)
    return found.clip(0, 1) if len(found) == len(mesh.vertices) else np.full((len(mesh.vertices), 3), 0.5)


def _cloud_colors(cloud: Any) -> np.ndarray:
    colors = np.asarray(cloud.colors) if cloud.colors is not None else np.zeros(0)
    return (
        colors[:, :3] / 255 if len(colors) == len(cloud.vertices) else np.full((len(cloud.vertices), 3), 0.5)
    )
