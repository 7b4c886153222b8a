"""T3Bench's protocol (He et al. 2023, arXiv 2310.02977) for assets of splats: 810 views, a reward for each, one number.

An asset is seen from the 162 vertices of an icosphere, each through five lenses, 512 pixels wide on black. A vertex counts as its
best view; three times each takes the mean with its neighbors; and the best of all is the asset's:

    quality = 20 max_v (A^3 max_f r[v, f]) + 50

A prompt without an asset is judged by black pictures. T3Bench renders meshes; here splats are rendered themselves, and where they
lie, or with `fit` moved and scaled as T3Bench does with meshes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.export import read
from rfgs.export.framing import moved
from rfgs.export.writing import finite_splats
from rfgs.render import render
from rfgs.render.cameras import Cameras, orbit
from rfgs.splats import Splats
from rfgs.tinyworld.asset_views import icosphere
from rfgs.tinyworld.scorer import smooth

Scorer = Callable[[Tensor, str], Tensor]
"""Pictures [B, 3, H, W] in steps of 1/255 in [0, 1] and a prompt -> how well they fit it, [B]; ImageReward, or your own."""

SIZE, VERTICES = 512, 162
RADIUS = 2.2
"""World units from the origin to the cameras."""
FOVS = tuple(180 / part for part in (3, 4, 5, 6, 7.5))
"""Vertical fields of view, degrees."""
CAPTION_RADIUS, CAPTION_FOV = RADIUS**2, FOVS[0]
"""Of the 12 views that are put into words: the published program multiplies the radius twice, so that the object is small."""
VIEWS_AT_ONCE = 15
"""Rendered and scored together; 512 pixels wide, they take 50 MB."""
LOOKS_OPAQUE = 0.1
"""Opacity from which a splat counts for the size of an asset."""


def views(subdivisions: int, radius: float, fovs: tuple[float, ...], size: int = SIZE) -> Cameras:
    """Cameras at the vertices of an icosphere, all fields of view of one vertex before the next; upright, at the poles +Y up."""
    vertices, _ = icosphere(subdivisions)
    x, y, z = vertices.double().unbind(dim=1)
    # At a pole T3Bench takes +Y for up: it is an orbit's camera that came there from the other end of Y.
    at_pole = z.abs() > 0.99
    azimuths = torch.where(at_pole, -90.0 * z.sign(), torch.atan2(y, x).rad2deg())
    elevations = z.clamp(-1, 1).asin().rad2deg()
    count = len(fovs)
    return orbit(
        azimuths.repeat_interleave(count),
        elevations.repeat_interleave(count),
        radius,
        torch.tensor(fovs).repeat(len(vertices)),
        size,
        size,
    )


def quality_views(size: int = SIZE) -> Cameras:
    """The 810 views of an asset that are scored."""
    return views(2, RADIUS, FOVS, size)


def caption_views(size: int = SIZE) -> Cameras:
    """The 12 views of an asset that are put into words."""
    return views(0, CAPTION_RADIUS, (CAPTION_FOV,), size)


@torch.no_grad()
def pictures(splats: Splats | None, cameras: Cameras) -> Tensor:
    """Splats on black, or black alone, as a file with 8 bits has them: [C, 3, H, W] in steps of 1/255."""
    if splats is None:
        return torch.zeros(len(cameras), 3, cameras.height, cameras.width)
    rgb = render(splats, cameras.to(splats.device)).rgb
    # In place: six such pictures made one after the other took as long as rendering them.
    return rgb.clamp_(0, 1).mul_(255).round_().div_(255).cpu()


def score_views(splats: Splats | None, prompt: str, scorer: Scorer, *, size: int = SIZE) -> Tensor:
    """A score for each view of an asset, [162, 5]; of none, black pictures'.

    Raises:
        UserError: the scorer's answer is not a finite number for each picture.
    """
    cameras = quality_views(size)
    if splats is None:
        score = _scored(scorer, pictures(None, cameras[0]), prompt)
        return score.expand(len(cameras)).reshape(-1, len(FOVS))
    parts = [
        _scored(scorer, pictures(splats, cameras[first : first + VIEWS_AT_ONCE]), prompt)
        for first in range(0, len(cameras), VIEWS_AT_ONCE)
    ]
    return torch.cat(parts).reshape(-1, len(FOVS))


def _scored(scorer: Scorer, shown: Tensor, prompt: str) -> Tensor:
    scores = torch.as_tensor(scorer(shown, prompt)).detach().float().cpu()
    if scores.shape != (len(shown),) or not bool(scores.isfinite().all()):
        raise UserError(
            f"the scorer's answer to {len(shown)} pictures has the shape {list(scores.shape)}, or is not finite; it has to be a "
            "finite number for each picture"
        )
    return scores


def quality(scores: Tensor) -> float:
    """T3Bench's quality of an asset from the scores of its views [162, 5]; about 0 to 100, and no bound keeps it there."""
    _, neighbors = icosphere(2)
    best = scores.float().amax(dim=1, keepdim=True)
    return 20 * smooth(best, neighbors).max().item() + 50


def alignment(points: float) -> float:
    """0 to 100 of the judge's mean points, 1 to 5."""
    return (points - 1) * 25


def fitted(splats: Splats) -> Splats:
    """The splats about their mean and in the cube [-1, 1], as T3Bench does with the vertices of a mesh.

    A mesh's vertices all lie on its surface. Of splats the mean is by opacity, and faint ones do not count for the size.
    """
    means, opacities = splats.means.detach(), splats.opacities.detach()
    center = (opacities[:, None] * means).sum(dim=0) / opacities.sum()
    shows = opacities >= min(LOOKS_OPAQUE, float(opacities.max()))
    largest = float((means[shows] - center).abs().max())
    x, y, z = center.tolist()
    return moved(splats, (x, y, z), largest) if largest > 0 and math.isfinite(largest) else splats


def asset(path: Path, *, fit: bool = False, device: str = "cpu") -> Splats:
    """The splats of a file, ready to be looked at.

    Raises:
        UserError: it is missing or damaged.
    """
    splats = finite_splats(read(path), path)
    return (fitted(splats) if fit else splats).to(device)


def fingerprint(path: Path | None) -> str:
    """What tells an asset's file from others: the first digits of its SHA-256; "missing" for none."""
    return "missing" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()[:16]
