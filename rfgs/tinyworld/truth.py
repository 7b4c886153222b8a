"""The truth: how near an asset is to what its prompt names, measured against the tiny world's own geometry.

The best of five sizes counts, by the silhouettes. Over 32 views (16 azimuths at elevation 10, 12 at 35, 4 at 70):

    iou           of the silhouettes, alpha above a half; mean over the views
    psnr          of the colors, clamped to [0, 1] over mid grey: -10 log10 of the squared error inside the union of both
                  silhouettes, mean over channels, pixels and then views
    edges         the share of edges that both have, within a few pixels and half as steep (`rfgs.tinyworld.edges`): falls
                  with blur, which the other two do not mind, and with frayed detail
    decisiveness  of prompts that leave colors open, in [0, 1]: how far the asset is on the way from the mean of all looks
                  (0) to the nearest one (1), along the line between them, inside the intersection of the silhouettes:
                  (|a - m|^2 + |n - m|^2 - |a - n|^2) / (2 |n - m|^2), clamped; errors across that line change nothing
    janus         of things whose sides differ, in [0, 1]: the share of the 16 views at elevation 10 that look like another
                  side (`rfgs.tinyworld.sides`)

For a prompt that leaves things open the nearest of the looks that it allows counts, by psnr. Pictures are linear in the
colors of their things, so that a squared error is a quadratic form in them, and many looks cost what one costs.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rfgs.distill import DistillConfig
from rfgs.distill.densify import Growth, densify, wants_absgrad
from rfgs.distill.loop import draw_background, draw_cameras, make_optimizer, set_learning_rates
from rfgs.render import render
from rfgs.splats import Splats
from rfgs.tinyworld.edges import shared_edges
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.shapes import by_shape, cameras_at, rows_at, traced
from rfgs.tinyworld.sides import janus, visible_parts
from rfgs.tinyworld.tracer import painted

SIZE = 128
"""Pixels of a view."""
RING = 16
"""The first of VIEWS, a whole turn at elevation 10."""
VIEWS = (
    [(360 * i / RING, 10.0) for i in range(RING)]
    + [(360 * i / 12 + 15, 35.0) for i in range(12)]
    + [(90 * i + 45, 70.0) for i in range(4)]
)
"""Azimuth and elevation in degrees."""
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
GREY = 0.5


@dataclass(frozen=True)
class Truth:
    """How near an asset is to its prompt."""

    iou: float
    psnr: float
    edges: float
    decisiveness: float | None
    """None for a prompt that leaves no color open."""
    janus: float | None
    """None for what looks alike from all around, and for single pictures."""
    look: Scene
    """The nearest of those that the prompt allows."""
    fraction: float
    """The best size, as a fraction of its range."""

    def figures(self) -> dict[str, float]:
        """For records: those of the five figures that there are."""
        named = {
            "iou": self.iou,
            "psnr": self.psnr,
            "edges": self.edges,
            "decisiveness": self.decisiveness,
            "janus": self.janus,
        }
        return {name: value for name, value in named.items() if value is not None}


def measure(splats: Splats, prompt: str) -> Truth:
    """The truth about an asset; UnknownThing for prompts of another world."""
    frames = render(splats.detach(), cameras_at(VIEWS, SIZE), torch.full((3,), GREY))
    rgb = frames.rgb.clamp(0, 1).permute(0, 2, 3, 1).double().numpy()
    return measure_views(
        rgb, frames.alpha.reshape(len(VIEWS), SIZE, SIZE).numpy() > 0.5, parse(prompt).looks()
    )


def measure_views(rgb: np.ndarray, silhouettes: np.ndarray, looks: list[Scene]) -> Truth:
    """The truth about pictures [32, 128, 128, 3] over mid grey with silhouettes [32, 128, 128], of VIEWS."""
    found = []
    for shape, scenes in by_shape(looks).items():
        layers, there = true_views(shape)
        both, either = silhouettes & there, silhouettes | there
        ious = (both.sum((2, 3)) / either.sum((2, 3)).clip(1)).mean(axis=1)
        best = int(ious.argmax())
        form = SquaredErrors(rgb, layers[best], either[best])
        errors = [form(thing_colors(scene)) for scene in scenes]
        near = int(np.argmin(errors))
        decisive = None
        if len(looks) > 1:
            decisive = decisiveness(SquaredErrors(rgb, layers[best], both[best]), looks, scenes[near])
        psnr = -10 * math.log10(max(errors[near], 1e-10))
        parts = layers[best] / np.float32(255)
        true = painted(parts, thing_colors(scenes[near])) + GREY * (1 - parts[..., 7:])
        edges = shared_edges(rgb, true)
        turned = janus(rgb[:RING], true[:RING], visible_parts(parts[:RING]))
        found.append(Truth(float(ious[best]), psnr, edges, decisive, turned, scenes[near], FRACTIONS[best]))
    return max(found, key=lambda truth: truth.psnr)


class SquaredErrors:
    """Mean squared error of pictures against a shape's in any colors, inside masks, as a quadratic form in the colors."""

    def __init__(
        self, rgb: np.ndarray, layers: np.ndarray, inside: np.ndarray, behind: float | np.ndarray = GREY
    ) -> None:
        """`rgb` [V, H, W, 3] over the color `behind`, `layers` [V, H, W, 8], `inside` [V, H, W]; the mean over V is last."""
        self.square, self.dot, self.gram = np.zeros(3), np.zeros((4, 3)), np.zeros((4, 4))
        for picture, parts, mask in zip(rgb, layers, inside, strict=True):
            if not mask.any():
                continue
            own = parts[mask][:, :4].astype(np.float64) / 255
            fixed = parts[mask][:, 4:7] / 255.0 + behind * (1 - parts[mask][:, 7:] / 255.0)
            rest = picture[mask] - fixed
            share = 1 / (3 * mask.sum() * len(rgb))
            self.square += share * np.square(rest).sum(axis=0)
            self.dot += share * own.T @ rest
            self.gram += share * own.T @ own

    def __call__(self, colors: np.ndarray) -> float:
        """The error against the shape in `colors` [4, 3]."""
        c = colors.astype(np.float64)
        return float(self.square.sum() - 2 * (c * self.dot).sum() + (c * (self.gram @ c)).sum())

    def between(self, one: np.ndarray, other: np.ndarray) -> float:
        """The error of the shape in some colors against itself in others."""
        c = one.astype(np.float64) - other
        return float((c * (self.gram @ c)).sum())


def decisiveness(form: SquaredErrors, looks: list[Scene], nearest: Scene) -> float:
    """How far pictures are from the mean of all looks towards the nearest, in [0, 1]; see above."""
    mean, colors = np.mean([thing_colors(scene) for scene in looks], axis=0), thing_colors(nearest)
    length = form.between(mean, colors)
    if length <= 0:
        return 0.0
    return min(max((form(mean) + length - form(colors)) / (2 * length), 0.0), 1.0)


@functools.lru_cache(maxsize=8)
def true_views(shape: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Layers [5, 32, 128, 128, 8] uint8 and silhouettes [5, 32, 128, 128] of a shape at all FRACTIONS, from VIEWS.

    Some seconds; those of the last eight shapes are kept, 21 MB each.
    """
    layers, silhouettes = [], []
    for fraction in FRACTIONS:
        one = traced(rows_at(shape, fraction), cameras_at(VIEWS, SIZE))
        silhouettes.append(one[..., 7] > 0.5)
        layers.append((one * 255 + 0.5).astype(np.uint8))
    return np.stack(layers), np.stack(silhouettes)


def fit_truth(
    scene: Scene, splats: Splats, config: DistillConfig, *, generator: torch.Generator, pool: int = 64
) -> Splats:
    """The bound of `measure`: splats fitted to the scene itself by the loop's renderer and settings, no model between.

    Its views are drawn as the loop draws them, `pool` of them, none of which is measured; so are backgrounds.
    """
    shown = [draw_cameras(i, SIZE, config, generator) for i in range(1, pool // config.views_per_step + 1)]
    rows = rows_at(scene, 0.5)
    targets = [_pictures(traced(rows, cameras), thing_colors(scene)) for cameras in shown]
    splats = splats.detach().clone().requires_grad_()
    optimizer, growth = make_optimizer(splats, config), Growth()
    for index in range(1, config.steps + 1):
        set_learning_rates(optimizer, config, (index - 1) / max(config.steps - 1, 1))
        cameras, (objects, behind) = shown[index % len(shown)], targets[index % len(shown)]
        background = draw_background(config, generator)
        frames = render(splats, cameras, background, absgrad=wants_absgrad(config))
        difference = frames.rgb - (objects + behind * background[:, :, None, None])
        (difference.square().sum() / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        now: dict[str, Any] = {"index": index, "steps": config.steps, "generator": generator}
        splats = densify(splats, optimizer, growth, frames, config, **now)
    return splats.detach()


def _pictures(layers: np.ndarray, colors: np.ndarray) -> tuple[Tensor, Tensor]:
    """Objects [V, 3, H, W] over black, and how much of the background is seen [V, 1, H, W]."""
    rgb = torch.from_numpy(painted(layers, colors))
    return rgb.permute(0, 3, 1, 2), torch.from_numpy(1 - layers[..., 7:]).permute(0, 3, 1, 2)
