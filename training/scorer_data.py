"""Training pictures of the scorer: its own draws of the tiny world, held-out combinations included, and how they are degraded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.render.cameras import DEFAULT_FOV, orbit
from rfgs.tinyworld.pictures import SETS, draw_view
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import Scene, draw_scene
from rfgs.tinyworld.tracer import render_scene
from training.data import SHARD, label_of, load_labels, scene_of

SIZE = 64
HELD_OUT = 0.35
"""Share of the scorer's pictures that show what the priors never see."""


def draw_any_scene(rng: np.random.Generator) -> Scene:
    """A random scene of a random set, held out from the priors' training or not."""
    return draw_scene(rng, rng.choice(list(SETS), p=list(SETS.values())), bool(rng.random() < HELD_OUT))


def render_shard(folder: Path, index: int, seed: int) -> None:
    """Write shard `index`: `images-NNNN.npy` [SHARD, 64, 64, 4] uint8 premultiplied RGBA, `labels-NNNN.json`."""
    labels_file = folder / f"labels-{index:04d}.json"
    if labels_file.exists():
        return
    rng = np.random.default_rng([seed, index])
    images = np.empty((SHARD, SIZE, SIZE, 4), dtype=np.uint8)
    labels = []
    for i in range(SHARD):
        scene = draw_any_scene(rng)
        azimuth, elevation, distance = draw_view(rng)
        camera = orbit(azimuth, elevation, distance, DEFAULT_FOV, SIZE, SIZE)
        picture = render_scene(build(scene, rng), camera.viewmats.numpy(), camera.Ks.numpy(), SIZE, SIZE)
        images[i] = (picture[0] * 255 + 0.5).clip(0, 255).astype(np.uint8)
        labels.append(label_of(scene, azimuth, elevation))
    np.save(folder / f"images-{index:04d}.npy", images)
    labels_file.write_text(json.dumps(labels))  # Written last: a shard with labels is whole.


def render_pictures(folder: Path, count: int, seed: int) -> Iterator[int]:
    """Render shards until `folder` holds `count` pictures; yields the number that are done. Resumes where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(-(-count // SHARD)):
        render_shard(folder, index, seed)
        yield (index + 1) * SHARD


def load_pictures(folder: Path) -> tuple[Tensor, list[Scene], list[str], list[tuple[float, float]]]:
    """All finished shards: RGBA [N, 64, 64, 4] uint8, their scenes, their view words, azimuths and elevations (degrees)."""
    labels = load_labels(folder)
    names = [file.name[7:11] for file in sorted(folder.glob("labels-*.json"))]
    images = torch.from_numpy(np.concatenate([np.load(folder / f"images-{name}.npy") for name in names]))
    directions = [(label["azimuth"], label["elevation"]) for label in labels]
    return images, [scene_of(label) for label in labels], [label["view"] for label in labels], directions


def degrade(rgba: Tensor, generator: torch.Generator, chunk: int = 16) -> Tensor:
    """Pictures [B, 64, 64, 4] uint8 over greys, as a renderer or a prior might show them: [B, 3, 64, 64] in about [0, 1].

    Moved, turned and scaled a little; brighter or darker; every second `chunk` of them blurred (sigma up to 1.2 pixels) or
    made of fewer pixels; with fine and coarse noise.
    """
    count = len(rgba)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape or (count,), generator=generator)

    size = rgba.shape[1]
    angle, zoom = uniform(-0.07, 0.07), uniform(0.92, 1.22)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = torch.stack([cosine, -sine, uniform(-0.08, 0.08), sine, cosine, uniform(-0.08, 0.08)], dim=1)
    grid = F.affine_grid(rows.view(count, 2, 3), [count, 4, size, size], align_corners=False)
    moved = F.grid_sample(rgba.permute(0, 3, 1, 2).float() / 255, grid, align_corners=False)
    grey = uniform(0, 1, count, 1, 1, 1) + uniform(-0.02, 0.02, count, 3, 1, 1)
    images = moved[:, :3] + (1 - moved[:, 3:]) * grey.clamp(0, 1)
    images = images * uniform(0.88, 1.1, count, 1, 1, 1) * uniform(0.96, 1.04, count, 3, 1, 1)
    images = images + uniform(-0.04, 0.04, count, 1, 1, 1)
    parts = []
    for part in images.split(chunk):
        choice = float(uniform(0, 1, 1))
        if choice < 0.35:
            part = blur(part, float(uniform(0.3, 1.2, 1)))
        elif choice < 0.5:
            fewer = int(uniform(0.55, 0.95, 1) * size)
            part = F.interpolate(part, size=fewer, mode="bilinear", antialias=True)
            part = F.interpolate(part, size=size, mode="bilinear")
        parts.append(part)
    images = torch.cat(parts)
    # Every sixteenth picture has the same fine noise, in another strength: random numbers are dear.
    noise = torch.randn(16, 3, size, size, generator=generator).repeat(-(-count // 16), 1, 1, 1)[:count]
    images = images + uniform(-0.03, 0.04, count, 1, 1, 1).clamp_min(0) * noise
    coarse = torch.randn(count, 3, size // 8, size // 8, generator=generator)
    strength = uniform(-0.04, 0.05, count, 1, 1, 1).clamp_min(0)
    return (images + strength * F.interpolate(coarse, size=size, mode="bilinear")).clamp(0, 1)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Images [B, 3, H, W] convolved with a Gaussian of `sigma` pixels; the border is repeated. Sigma 0 changes nothing."""
    if sigma <= 0:
        return images
    reach = max(1, math.ceil(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).expand(3, 1, -1)
    images = F.pad(images, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(images, taps[:, :, None], groups=3), taps[..., None], groups=3)
