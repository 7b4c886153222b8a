"""How straight a flow's paths are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rfgs.guidance.ode import OdeConfig, sample_ode
from rfgs.priors import Prior
from rfgs.tinyworld.language import caption
from rfgs.tinyworld.prompts import PROMPT_SETS, held_out_scenes
from rfgs.tinyworld.scorer_labels import LABELS

PROMPTS = 4
"""Of each set, whose paths are followed."""


@torch.no_grad()
def straightness(prior: Prior, prompts: Sequence[str], noise: Tensor, steps: int) -> dict[str, float]:
    """How far the flow's paths are from straight lines, without guidance (Liu et al. 2022, "Flow Straight and Fast", S(Z)):

        S = int_0^1 E || (x_1 - x_0) - v(x_t, t) ||^2 dt

    where x_t is the path that ends at the noise x_1 (theirs counts time the other way, which changes nothing). It is 0 for
    straight paths at even speed, which one Euler step follows exactly. Midpoint steps, whose error falls as 1 / steps^2.

    Args:
        noise: x_1, [B, c, h, w], one for each of `prompts`.

    Returns:
        "S"; "per_value", S over c h w; "relative", S over E || x_1 - x_0 ||^2, which has no unit.
    """
    condition = prior.embed(list(prompts))
    x, slopes = noise, []
    for step in sample_ode(prior, noise, condition, condition, OdeConfig(steps=steps, solver="midpoint")):
        slopes.append((x - step.x) * steps)  # Times are even and fall: x(t) - x(t - 1/steps) is v / steps.
        x = step.x
    way = noise - x
    squares = torch.stack([(way - v).square().flatten(1).sum(1).mean() for v in slopes])
    s = squares.mean().item()
    length = way.square().flatten(1).sum(1).mean().item()
    return {"S": s, "per_value": s / noise[0].numel(), "relative": s / length if length else 0.0}


def straight_figures(prior: Any, settings: dict[str, Any]) -> dict[str, float]:
    """`straightness` over the first `PROMPTS` prompts of every set, from each side."""
    scenes = [s for name in PROMPT_SETS for s in held_out_scenes(name)[: min(PROMPTS, settings["prompts"])]]
    texts = [f"{caption(scene)}, {view}" for scene in scenes for view in LABELS["view"]]
    with torch.no_grad():
        blank = prior.encode(torch.full((1, 3, prior.image_size, prior.image_size), 0.5))
    noise = torch.randn(
        len(texts), *blank.shape[1:], generator=torch.Generator().manual_seed(settings["seed"])
    )
    return {"paths": len(texts), **straightness(prior, texts, noise, settings["steps"])}
