"""iRFDS: the same objective solved for the noise instead of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rfgs.guidance.common import Estimate, Finite, finite, matching_loss, root_mean_square
from rfgs.priors.base import Condition, Prior
from rfgs.priors.flow import draw_times, estimate_x0, interpolate, per_sample
from rfgs.settings import setting


def noise_step(
    x: Tensor,
    e: Tensor,
    v: Tensor,
    t: Tensor,
    step_size: float,
    *,
    exact: bool = False,
    finite: Finite = finite,
) -> Tensor:
    """One explicit gradient step of the iRFDS loss on the noise, for a frozen velocity v (Yang et al., eq. 6).

        e' = e + a (v - (e - x)),   a = step_size (1 - t),   or a = step_size if `exact`

    With step size 1 the first is the authors' step for SD3, e' = x_t + (1 - t) v, the prior's own estimate of the noise;
    the second is their step for InstaFlow, e' = x + v, which solves the frozen problem exactly.
    Where v is not finite, the noise stays as it is. All tensors [B, c, h, w], t [B].
    """
    a = step_size if exact else step_size * (1 - per_sample(t, x))
    return e + finite(a * (v - (e - x)))


def irfds(prior: Prior, x: Tensor, e: Tensor, condition: Condition, *, t: Tensor) -> Estimate:
    """The iRFDS loss for the noise `e` (with gradient) of fixed latents x (Yang et al., eq. 6), both [B, c, h, w].

    L = || (e - x) - sg[v(x_t, t)] ||^2,   without classifier-free guidance
    """
    x_t = interpolate(prior, x, e.detach(), t)
    with torch.no_grad():
        v = prior.predict(x_t, t, condition)
    u = e - x
    return Estimate(matching_loss(u, v, "mean"), root_mean_square(u - v), estimate_x0(prior, x_t, v, t), t)


def moment_penalty(e: Tensor) -> Tensor:
    """mean(e)^2 + (var(e) - 1)^2, which keeps the noise Gaussian in its first two moments (authors' code)."""
    return e.mean().square() + (e.var() - 1).square()


@dataclass
class InversionConfig:
    """Settings of `invert`; the defaults are the authors' for SD3."""

    steps: int = setting(1400, "Number of Adam steps.", least=1, common=True)
    learning_rate: float = setting(2e-3, "Of Adam's steps on the noise.", above=0, most=10)
    noise_range: tuple[float, float] = setting((0.01, 1.0), "Noise fractions drawn.", least=0, most=1)
    moment_weight: float = setting(1.0, "Pull of the noise to mean 0 and variance 1.", least=0)


def invert(
    prior: Prior,
    x: Tensor,
    condition: Condition,
    config: InversionConfig,
    *,
    generator: torch.Generator,
    finite: Finite = finite,
) -> Iterator[tuple[Tensor, Estimate]]:
    """Find the noise of the latents x [B, c, h, w]: yields (noise, estimate) after each of `config.steps` Adam steps.

    The noise starts as Gaussian noise. Sampling from it with the same or another prompt reconstructs or edits the image.
    `finite` goes over the gradients.
    """
    e = torch.randn(x.shape, generator=generator).to(x).requires_grad_()
    optimizer = torch.optim.AdamW([e], lr=config.learning_rate, weight_decay=0.0)
    for _ in range(config.steps):
        t = draw_times(len(x), config.noise_range, generator).to(x)
        estimate = irfds(prior, x, e, condition, t=t)
        (estimate.loss + config.moment_weight * moment_penalty(e)).backward()
        e.grad = None if e.grad is None else finite(e.grad)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield e.detach(), estimate
