"""A surface from splats: depths that are rendered from all around, fused into a volume, and its zero level.

Curless and Levoy, "A Volumetric Method for Building Complex Models from Range Images", 1996.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from rfgs.distill.densify_ops import rotations
from rfgs.errors import UserError
from rfgs.export.framing import framing, moved
from rfgs.render import render
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_ELEVATIONS, DEFAULT_FOV, Cameras, orbit
from rfgs.splats import HAZE, SH_C0, Splats

FEW = 3
"""Views that have to know of a place: what is deep behind the surface of all others is inside. Between splats there are gaps that
one or two look through."""
LOWEST = -18.0
"""Degrees: a little below what runs look from, where cameras are level with the feet of an object and cut its underside flat."""
INTO = 1.25
"""How far before the mean of its depths a soft surface is, in their standard deviations. At 1 plain sides, which nothing tells
the fit how soft they may be, are dented; at more, sharp ones swell."""
SOFT = 0.08
"""Standard deviation of the depths, in radii of the frame, at which a view knows about half as well where the surface is."""
SHARE = 0.01
"""Of the largest piece: smaller ones are specks, and left out."""


@dataclass(frozen=True)
class Mesh:
    """Triangles with colors at their corners, in the splats' own axes and units."""

    vertices: np.ndarray
    """Float32 [V, 3]."""
    faces: np.ndarray
    """Counter-clockwise seen from outside, int32 [F, 3]."""
    normals: np.ndarray
    """Of length 1, outwards, float32 [V, 3]."""
    colors: np.ndarray
    """Display sRGB in [0, 1], float32 [V, 3]."""


def mesh_of(splats: Splats, *, resolution: int = 128, views: int = 60, size: int = 256) -> Mesh:
    """The surface of what is opaque, closed everywhere: what no view sees into is taken for solid.

    Args:
        resolution: cells along 2.5 radii of the object's frame (`rfgs.export.framing`).
        views: cameras around the object;  size: width and height of what they see, pixels.

    Raises:
        UserError: there is no surface, since all is transparent; or scikit-image is missing (`pip install 'rfgs[mesh]'`).
    """
    try:
        from skimage.measure import label, marching_cubes
    except ImportError as error:
        raise UserError("a mesh needs scikit-image; install it with: pip install 'rfgs[mesh]'") from error
    splats = splats.detach()
    center, radius = framing(splats)
    splats = moved(splats, center, radius)
    splats = splats.select(splats.opacities >= HAZE)
    cell = 2.5 / resolution
    low, high = _box(splats, 6 * cell)
    counts = [math.ceil(width / cell) for width in (high - low).tolist()]
    distances, colors, weights = _fused(splats, low, counts, cell, _all_around(views, size).to(splats.device))
    # A border that is outside closes what reaches it.
    distances = np.pad(distances, 1, constant_values=1.0)
    colors, weights = np.pad(colors, ((1, 1), (1, 1), (1, 1), (0, 0))), np.pad(weights, 1)
    pieces = label(distances < 0, connectivity=1)
    sizes = np.bincount(pieces.ravel())[1:]
    if not len(sizes):
        raise UserError(
            "there is no surface for a mesh: nowhere are the splats opaque; a .ply keeps them as they are"
        )
    small = np.flatnonzero(sizes < SHARE * sizes.max()) + 1
    distances[np.isin(pieces, small)] = 1.0
    # A hollow that is open to nowhere was seen through gaps between splats, if at all.
    free = label(distances >= 0, connectivity=1)
    distances[(free > 0) & (free != free[0, 0, 0])] = -1.0
    corners, faces, inward, _ = marching_cubes(distances, 0.0)
    vertices = (corners - 0.5) * cell + low.numpy()
    return Mesh(
        (vertices * radius + np.array(center)).astype(np.float32),
        faces.astype(np.int32),
        -inward.astype(np.float32),
        _colors_at(corners, colors, weights),
    )


def _box(splats: Splats, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The corners, [3] each, of a box around the splats with a margin, no larger than the frame."""
    if not len(splats):
        return torch.full((3,), -0.1), torch.full((3,), 0.1)
    sizes = 2 * splats.scales.mean(dim=1, keepdim=True)
    low, high = (splats.means - sizes).amin(dim=0), (splats.means + sizes).amax(dim=0)
    return (low - margin).clamp(-1.25, 1.15).cpu(), (high + margin).clamp(-1.15, 1.25).cpu()


def _fused(
    splats: Splats, low: torch.Tensor, counts: list[int], cell: float, cameras: Cameras
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distances as parts of the reach in [-1, 1], sums of colors near the surface, and how many they are; by cell.

    Args:
        low: corner of the volume, [3];  counts: cells along x, y and z;  cell: their width.
    """
    axes = [
        (torch.arange(count) + 0.5) * cell + start for count, start in zip(counts, low.tolist(), strict=True)
    ]
    centers = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    reach = 4 * cell
    sums, votes, knowing = (
        torch.zeros(len(centers)),
        torch.full((len(centers),), 1e-6),
        torch.zeros(len(centers)),
    )
    colors, weights = torch.zeros(len(centers), 3), torch.zeros(len(centers))
    size = cameras.width
    for index in range(len(cameras)):
        camera = cameras[index]
        alpha, depth, spread, rgb = (part.cpu() for part in _seen(splats, camera))
        view, K = camera.viewmats[0].cpu(), camera.Ks[0].cpu()
        x, y, z = (centers @ view[:3, :3].T + view[:3, 3]).unbind(-1)
        column = (K[0, 0] * x / z + K[0, 2]).floor().long()
        row = (K[1, 1] * y / z + K[1, 2]).floor().long()
        # All of the volume lies before the cameras. What is beside a picture was not seen by it.
        seen = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        pixel = (row * size + column)[seen]
        opaque = alpha.flatten()[pixel] >= 0.5
        distance = torch.where(opaque, depth.flatten()[pixel] - z[seen], reach)
        near = opaque & (distance.abs() < reach)
        # What is deep behind a surface, this view knows nothing of. How far one is that is seen aslant, it knows badly, as
        # it does where it looks at the far side through a gap, or into what is soft.
        clear = _facing(depth, K) * (0.1 + 0.9 / (1 + (spread / SOFT).square()))
        sure = torch.where(opaque, clear.flatten()[pixel], 1.0)
        told = distance > -reach
        vote = told * sure
        sums[seen] += vote * (distance / reach).clamp(-1, 1)
        votes[seen] += vote
        knowing[seen] += told & (sure > 0.1)
        place, pixel = seen.nonzero()[:, 0][near], pixel[near]
        colors[place] += rgb.flatten(1)[:, pixel].T
        weights[place] += 1
    distances = torch.where(knowing >= FEW, sums / votes, -1.0)
    return (
        distances.reshape(counts).numpy(),
        colors.reshape(*counts, 3).numpy(),
        weights.reshape(counts).numpy(),
    )


@torch.no_grad()
def _seen(splats: Splats, camera: Cameras) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What one camera sees: alpha, camera z of the surface and the deviation of depths there, [H, W] each, and colors without a
    background [3, H, W].

    A renderer's depth is the mean of the centers of what is seen. But splats are seen before their centers, by about a standard
    deviation, and light comes from some way into a soft surface, by about the deviation of the depths from their mean (`INTO`).
    """
    frame = render(splats, camera)
    rotation, translation = camera.viewmats[0, :3, :3], camera.viewmats[0, :3, 3]
    z = (
        splats.means @ rotation[2] + translation[2] - DEFAULT_DISTANCE + 2
    )  # Positive, as colors have to be, and near 2.
    reach = (rotations(splats.quats).mT @ rotation[2] * splats.scales).norm(dim=-1)
    values = torch.stack([z, z.square(), reach], dim=-1)
    measured = render(replace(splats, sh0=((values - 0.5) / SH_C0)[:, None], shN=None), camera)
    alpha = frame.alpha[0, 0].clamp(min=1e-3)
    mean, square, before = measured.rgb[0] / alpha
    spread = (square - mean.square()).clamp(min=0).sqrt()
    depth = mean - INTO * spread - before + DEFAULT_DISTANCE - 2
    return frame.alpha[0, 0], depth, spread, (frame.rgb[0] / alpha).clamp(0, 1)


def _facing(depth: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """Squared cosines of the angles at which surfaces are seen, [H, W], from the slopes of their depths; small at edges."""
    across = depth.clamp(min=1e-3) / K[0, 0]  # Width of a pixel, world units.
    slopes = [(depth.roll(-1, axis) - depth.roll(1, axis)) / (2 * across) for axis in (0, 1)]
    return 1 / (1 + slopes[0].square() + slopes[1].square())


def _all_around(views: int, size: int) -> Cameras:
    """Cameras spread evenly, as seeds are over a sunflower, over the part of a sphere that runs look from.

    Below it nobody has seen to it that there is a surface; what the lowest views leave of an object is closed there.
    """
    index = np.arange(views)
    azimuths = np.degrees(index * math.pi * (3 - 5**0.5)) % 360
    low, high = np.sin(np.radians((LOWEST, DEFAULT_ELEVATIONS[1])))
    elevations = np.degrees(np.arcsin(low + (high - low) * (index + 0.5) / views))
    return orbit(
        torch.from_numpy(azimuths),
        torch.from_numpy(elevations),
        DEFAULT_DISTANCE,
        DEFAULT_FOV + 10,
        size,
        size,
    )


def _colors_at(corners: np.ndarray, colors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Colors [V, 3] between the cells at `corners` [V, 3], which are in cells; grey where no view saw any."""
    from scipy.ndimage import map_coordinates

    at = corners.T
    weight = map_coordinates(weights, at, order=1)
    mixed = [map_coordinates(colors[..., channel], at, order=1) for channel in range(3)]
    found = np.stack(mixed, axis=1) / np.maximum(weight, 1e-6)[:, None]
    return np.where(weight[:, None] > 0, found, 0.5).clip(0, 1).astype(np.float32)
