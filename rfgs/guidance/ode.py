"""The flow's own path between data and noise: followed one way it inverts an image, the other way it samples one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.common import Finite, finite
from rfgs.priors.base import Condition, Prior, guided
from rfgs.priors.flow import estimate_x0
from rfgs.settings import setting

Solver = Literal["euler", "midpoint"]


@dataclass(frozen=True, eq=False)
class PathStep:
    """One step along a path in time."""

    index: int
    """1-based."""
    total: int
    t: float
    """Noise fraction after the step."""
    x: Tensor
    """Where the path is after the step, [B, c, h, w]."""
    x0_hat: Tensor
    """The clean latents it is heading for, or comes from, [B, c, h, w]."""


@dataclass
class OdeConfig:
    """Settings of one way along the path."""

    steps: int = setting(50, "Number of steps in time.", least=1, common=True)
    """The authors' number, for inversion."""
    guidance_scale: float = setting(1.0, "Guidance scale; 1 is none.", least=0)
    """1 is the only scale at which inversion and sampling follow one and the same path."""
    shift: float = setting(1.0, "How far the times lean to the noise; 1 is not at all.", above=0)
    """See `time_grid`; Stable Diffusion 3 samples with 3."""
    solver: Solver = setting("euler", "midpoint takes two evaluations a step and is of second order.")


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """[steps + 1] noise fractions from 0 to 1, float64: t = s u / (1 + (s - 1) u), u even (Esser et al. 2024, eq. 23).

    Raises:
        UserError: less than one step, or a shift that is not positive.
    """
    if steps < 1:
        raise UserError(f"{steps} steps: a path takes at least 1; try 50")
    if not shift > 0:
        raise UserError(f"shift {shift:g}: has to be positive; 1 makes even steps")
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return shift * u / (1 + (shift - 1) * u)


def integrate(
    prior: Prior,
    x: Tensor,
    condition: Condition,
    negative: Condition,
    times: Tensor,
    *,
    guidance_scale: float = 1.0,
    solver: Solver = "euler",
    finite: Finite = finite,
) -> Iterator[PathStep]:
    """Follow dx/dt = v(x, t) through `times` [K + 1], in either direction, and yield each of the K steps.

    A step from t to t' asks for the velocity *at t*, where the path is, in both directions: with increasing times that
    is the inversion of Yang et al. in its correct form, the first evaluation at t = 0 on the data. (Their released
    code gives the network negative times in the opposite order.)

    Args:
        x: latents [B, c, h, w] at times[0].
        negative: used only if guidance_scale is not 1.
        finite: goes over the velocities; where one overflows, the path stands still for a step.
    """
    pairs = list(pairwise(times.tolist()))
    for index, (now, after) in enumerate(pairs, start=1):
        t = x.new_full((len(x),), now)
        v = finite(guided(prior, x, t, condition, negative, guidance_scale))
        x0_hat = estimate_x0(prior, x, v, t)
        if solver == "midpoint":
            half = (after - now) / 2
            v = finite(guided(prior, x + half * v, t + half, condition, negative, guidance_scale))
        x = x + (after - now) * v
        yield PathStep(index, len(pairs), after, x, x0_hat)


def invert_ode(
    prior: Prior,
    x: Tensor,
    condition: Condition,
    negative: Condition,
    config: OdeConfig,
    *,
    finite: Finite = finite,
) -> Iterator[PathStep]:
    """From the latents x [B, c, h, w] of an image, at t = 0, to its noise, at t = 1 (the last step's `x`)."""
    return _along(time_grid(config.steps, config.shift), config, prior, x, condition, negative, finite)


def sample_ode(
    prior: Prior,
    noise: Tensor,
    condition: Condition,
    negative: Condition,
    config: OdeConfig,
    *,
    finite: Finite = finite,
) -> Iterator[PathStep]:
    """From noise [B, c, h, w], at t = 1, to the latents of an image, at t = 0 (the last step's `x`)."""
    times = time_grid(config.steps, config.shift).flip(0)
    return _along(times, config, prior, noise, condition, negative, finite)


def _along(
    times: Tensor, config: OdeConfig, prior: Prior, x: Tensor, condition: Condition, negative: Condition, finite: Finite
) -> Iterator[PathStep]:  # fmt: skip
    scale, solver = config.guidance_scale, config.solver
    return integrate(prior, x, condition, negative, times, guidance_scale=scale, solver=solver, finite=finite)
