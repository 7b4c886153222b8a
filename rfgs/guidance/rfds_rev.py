"""RFDS-Rev: find the noise that belongs to the image first, then distill with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rfgs.guidance.common import (
    Estimate,
    Finite,
    GuidanceConfig,
    Guide,
    Reduction,
    TimeSettings,
    Views,
    arguments,
    finite,
    own,
    time_weights,
)
from rfgs.guidance.irfds import noise_step
from rfgs.guidance.perp_neg import Others
from rfgs.guidance.rfds import rfds
from rfgs.priors.base import Condition, Prior
from rfgs.priors.flow import interpolate
from rfgs.settings import setting


@torch.no_grad()
def reversed_noise(
    prior: Prior,
    x: Tensor,
    condition: Condition,
    *,
    t: Tensor,
    e: Tensor,
    steps: int = 1,
    step_size: float = 1.0,
    exact: bool = False,
    optimizer: Literal["gradient", "adam"] = "gradient",
    renormalize: bool = False,
    finite: Finite = finite,
) -> Tensor:
    """The inner loop of algorithm 1: `steps` iRFDS steps on the noise e [B, c, h, w], all at the same t [B], without CFG.

    One of step size 1 moves x_t by -(1 - t) (x0_hat - x), against the step that RFDS would take there.

    Args:
        step_size, exact: see `noise_step`.
        optimizer: "gradient" takes `noise_step`, the released code; "adam" gives the same gradient to an Adam that
            starts anew each time, with step_size as its learning rate.
        renormalize: bring each sample's noise back to mean 0 and variance 1. One step leaves it too small (its spread is
            about 1 / (1 + SNR)), so that x_t is cleaner than its time label says.
        finite: goes over each step, so that what overflows is not believed.
    """
    adam = torch.optim.Adam([e := e.clone()], lr=step_size) if optimizer == "adam" else None
    for _ in range(steps):
        v = prior.predict(interpolate(prior, x, e, t), t, condition)
        if adam is None:
            e = noise_step(x, e, v, t, step_size, exact=exact, finite=finite)
        else:
            e.grad = finite((e - x) - v)  # Of 0.5 || (e - x) - sg[v] ||^2, per sample.
            adam.step()
    if renormalize:
        axes = tuple(range(1, e.ndim))
        e = (e - e.mean(axes, keepdim=True)) / e.std(axes, keepdim=True).clamp_min(1e-6)
    return e


def rfds_rev(
    prior: Prior,
    x: Tensor,
    condition: Condition,
    negative: Condition,
    *,
    t: Tensor,
    e: Tensor,
    guidance_scale: float,
    steps: int = 1,
    step_size: float = 1.0,
    exact: bool = False,
    optimizer: Literal["gradient", "adam"] = "gradient",
    renormalize: bool = False,
    weight: Tensor | None = None,
    reduction: Reduction = "sum",
    others: Others | None = None,
    finite: Finite = finite,
) -> Estimate:
    """RFDS-Rev (Yang et al., algorithm 1): replace the random noise by the one the prior finds for x, then RFDS at the same t.

    Three network evaluations a sample for one inner step, against two for RFDS. Arguments as in `rfds` and
    `reversed_noise`; `condition` is used without guidance inside and with it outside, as in the authors' code.
    """
    found = reversed_noise(
        prior,
        x.detach(),
        condition,
        t=t,
        e=e,
        steps=steps,
        step_size=step_size,
        exact=exact,
        optimizer=optimizer,
        renormalize=renormalize,
        finite=finite,
    )
    return rfds(
        prior,
        x,
        condition,
        negative,
        t=t,
        e=found,
        guidance_scale=guidance_scale,
        weight=weight,
        reduction=reduction,
        others=others,
    )


@dataclass(frozen=True)
class RFDSRevSettings(TimeSettings):
    """Those of the inner steps."""

    inner_steps: int = setting(
        1,
        "Steps that look for the noise of each view; every one costs an evaluation of the model.",
        least=1,
        most=1000,
        steer=(1, 8),
    )
    inner_step_size: float = setting(
        1.0,
        "Size of these steps, in units of the share of the image that is not noise; with adam, its learning rate.",
        above=0,
    )
    inner_optimizer: Literal["gradient", "adam"] = setting(
        "gradient", "How these steps are taken: plain gradient steps, as released, or Adam's."
    )
    exact_inner_step: bool = setting(
        False, "Count the step size in units of the whole image, the authors' way for InstaFlow."
    )
    """In units of 1, and not of (1 - t), the authors' way for SD3."""
    renormalize_noise: bool = setting(False, "Bring the noise that was found back to mean 0 and variance 1.")


class RFDSRev(Guide):
    """`rfds_rev` for the loops."""

    name, kind, settings = "rfds-rev", "flow", RFDSRevSettings

    def __call__(self, views: Views, config: GuidanceConfig) -> Estimate:
        inner = own(RFDSRevSettings, config)
        return rfds_rev(
            self.prior,
            **arguments(views, config),
            steps=inner.inner_steps,
            step_size=inner.inner_step_size,
            exact=inner.exact_inner_step,
            optimizer=inner.inner_optimizer,
            renormalize=inner.renormalize_noise,
            weight=time_weights(views.t, inner.time_weight),
            finite=views.finite,
        )
