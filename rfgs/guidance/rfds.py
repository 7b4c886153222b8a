"""RFDS: score distillation with a rectified flow."""

from __future__ import annotations

from torch import Tensor

from rfgs.guidance.common import (
    Estimate,
    GuidanceConfig,
    Guide,
    Reduction,
    TimeSettings,
    Views,
    arguments,
    matching_loss,
    own,
    root_mean_square,
    time_weights,
)
from rfgs.guidance.perp_neg import Others, guided_prediction
from rfgs.priors.base import Condition, Prior
from rfgs.priors.flow import estimate_x0, interpolate


def rfds(
    prior: Prior, x: Tensor, condition: Condition, negative: Condition,
    *, t: Tensor, e: Tensor, guidance_scale: float, weight: Tensor | None = None,
    reduction: Reduction = "sum", others: Others | None = None,
) -> Estimate:  # fmt: skip
    """Rectified-flow distillation sampling (Yang et al., "Text-to-Image Rectified Flow as Plug-and-Play Priors", eq. 4).

    x_t = (1 - t) x + t e, and x is moved so that its straight path e - x agrees with the prior's velocity at x_t:

        L = w || (e - x) - sg[v_cfg(x_t, t)] ||^2

    Two network evaluations a sample.

    Args:
        x: latents [B, c, h, w] with gradient.
        t: noise fractions [B];  e: Gaussian noise like x.
        guidance_scale: s of v_null + s (v_text - v_null).
        weight: w of each sample, [B]; None is 1.
        others: replaces classifier-free guidance by Perp-Neg.
    """
    x_t = interpolate(prior, x.detach(), e, t)
    v = guided_prediction(prior, x_t, t, condition, negative, guidance_scale, others)
    u = e - x
    loss = matching_loss(u, v, reduction, weight=weight)
    return Estimate(loss, root_mean_square(u - v), estimate_x0(prior, x_t, v, t), t)


class RFDS(Guide):
    """`rfds` for the loops."""

    name, kind, settings = "rfds", "flow", TimeSettings

    def __call__(self, views: Views, config: GuidanceConfig) -> Estimate:
        weight = time_weights(views.t, own(TimeSettings, config).time_weight)
        return rfds(self.prior, **arguments(views, config), weight=weight)
