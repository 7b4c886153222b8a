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
from rfgs.priors.base import Condition, Prior
from rfgs.priors.flow import estimate_x0, interpolate


def sds(
    prior: Prior, x: Tensor, condition: Condition, negative: Condition,
    *, t: Tensor, e: Tensor, guidance_scale: float, weight: Tensor | None = None,
    reduction: Reduction = "sum", others: Others | None = None,
) -> Estimate:  # fmt: skip
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
    x_t = interpolate(prior, x.detach(), e, t)
    epsilon = guided_prediction(prior, x_t, t, condition, negative, guidance_scale, others)
    x0_hat = estimate_x0(prior, x_t, epsilon, t)
    signal, noise = (power.to(x) for power in prior.powers(t))  # alpha_bar and 1 - alpha_bar.
    weight = noise if weight is None else weight.to(x)
    loss = matching_loss(x, x0_hat, reduction, weight=weight * (signal / noise).sqrt())
    return Estimate(loss, root_mean_square(epsilon - e), x0_hat, t)


class SDS(Guide):
    """`sds` for the loops."""

    name, kind = "sds", "diffusion"

    def __call__(self, views: Views, config: GuidanceConfig) -> Estimate:
        return sds(self.prior, **arguments(views, config))
