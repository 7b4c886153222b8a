"""FlowEdit: from one prompt's image to another's without any inversion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.common import Finite, finite
from rfgs.guidance.ode import PathStep, time_grid
from rfgs.priors.base import Condition, Prior, guided
from rfgs.settings import setting


@dataclass
class FlowEditConfig:
    """Settings of `flowedit`; the defaults are the paper's for Stable Diffusion 3."""

    steps: int = setting(
        50,
        "Steps from pure noise to data, of which only the last `strength` are taken.",
        least=1,
        common=True,
    )
    strength: float = setting(
        33 / 50,
        "Share of the steps that edit; 1 changes most and keeps least of the source.",
        above=0,
        most=1,
        common=True,
    )
    """n_max / T."""
    source_scale: float = setting(3.5, "Guidance scale under the source prompt.", least=0)
    target_scale: float = setting(13.5, "Guidance scale under the target prompt.", least=0)
    averages: int = setting(1, "Noises averaged in each step.", least=1, most=1000)
    """n_avg."""
    shift: float = setting(3.0, "How far the times lean to the noise; 1 is not at all.", above=0)
    """See `time_grid`."""


def flowedit(
    prior: Prior,
    x: Tensor,
    source: Condition,
    target: Condition,
    negative: Condition,
    config: FlowEditConfig,
    *,
    generator: torch.Generator,
    finite: Finite = finite,
) -> Iterator[PathStep]:
    """Edit the latents x [B, c, h, w] (Kulikov et al. 2024, "FlowEdit", algorithm 1 with n_min = 0).

    The edited latents z start at x. In each step the *same* fresh noise e goes onto both, and z moves by the difference
    of the two velocities, so that whatever the two prompts agree about stays where it is:

        x_t = (1 - t) x + t e,   z_t = z + x_t - x,   z += (t' - t) (v_target(z_t, t) - v_source(x_t, t))

    Yields one step after another; the last one's `x` is the edit. `finite` goes over the differences.

    Raises:
        UserError: a strength outside (0, 1], or no noise to average.
    """
    if not 0 < config.strength <= 1:
        raise UserError(f"strength {config.strength:g}: has to be above 0 and at most 1; try 0.66")
    if config.averages < 1:
        raise UserError(f"averages {config.averages}: has to be at least 1")
    count = max(1, round(config.strength * config.steps))
    pairs = list(pairwise(time_grid(config.steps, config.shift)[: count + 1].flip(0).tolist()))
    z = x
    for index, (now, after) in enumerate(pairs, start=1):
        t = x.new_full((len(x),), now)
        difference = torch.zeros_like(x)
        for _ in range(config.averages):
            e = torch.randn(x.shape, generator=generator).to(x)
            x_t = (1 - now) * x + now * e
            z_t = z + x_t - x
            v_target = guided(prior, z_t, t, target, negative, config.target_scale)
            v_source = guided(prior, x_t, t, source, negative, config.source_scale)
            difference += finite(v_target - v_source) / config.averages
        z = z + (after - now) * difference
        yield PathStep(index, len(pairs), after, z, z)
