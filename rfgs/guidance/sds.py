"""SDS: score distillation with a diffusion model, where it all began."""

from __future__ import annotations

from torch import Tensor

from rfgs.guidance.common import (
    Estimate,
    GuidanceConfig,
    Guide,
    Reduction,
    Views,
    arguments,
    matching_loss,
    root_mean_square,
)
from rfgs.guidance.perp_neg import Others, guided_prediction
from rfgs.priors.base import Condition, DiffusionPrior
from rfgs.priors.flow import per_sample


def diffuse(x: Tensor, e: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) e, all [B, ...], alpha_bar [B] (Ho et al. 2020, equation 4)."""
    alpha_bar = per_sample(alpha_bar, x)
    return alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * e


def denoise(x_t: Tensor, epsilon: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean sample that remains without the noise epsilon: `diffuse` solved for x."""
    alpha_bar = per_sample(alpha_bar, x_t)
    return (x_t - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt()


def sds(
    prior: DiffusionPrior,
    x: Tensor,
    condition: Condition,
    negative: Condition,
    *,
    t: Tensor,
    e: Tensor,
    guidance_scale: float,
    weight: Tensor | None = None,
    reduction: Reduction = "sum",
    others: Others | None = None,
) -> Estimate:
    """Score distillation sampling (Poole et al. 2023, "DreamFusion", equation 3), as matching x to the clean estimate:

        L = w sqrt(alpha_bar / (1 - alpha_bar)) || x - sg[x0_hat] ||^2,   w = 1 - alpha_bar = sigma^2

    whose gradient by x is the paper's w (eps_cfg(x_t, t) - e), since x - x0_hat = sqrt((1 - alpha_bar) / alpha_bar)
    (eps_cfg - e). RFDS is this with w = 1 / (1 - t), where t is the noise fraction of the same noise level.
    Two network evaluations a sample.

    Args:
        t: fractions of the training steps [B];  e: Gaussian noise like x.
        weight: w of each sample, [B]; None is 1 - alpha_bar.
        others: replaces classifier-free guidance by Perp-Neg.
    """
    alpha_bar = prior.alpha_bars(t).to(x)
    x_t = diffuse(x.detach(), e, alpha_bar)
    epsilon = guided_prediction(prior, x_t, t, condition, negative, guidance_scale, others)
    x0_hat = denoise(x_t, epsilon, alpha_bar)
    weight = 1 - alpha_bar if weight is None else weight.to(x)
    loss = matching_loss(x, x0_hat, reduction, weight=weight * (alpha_bar / (1 - alpha_bar)).sqrt())
    return Estimate(loss, root_mean_square(epsilon - e), x0_hat, t)


class SDS(Guide):
    """`sds` for the loops."""

    name, kind = "sds", "diffusion"

    def __call__(self, views: Views, config: GuidanceConfig) -> Estimate:
        return sds(self.prior, **arguments(views, config))
