"""Pulls that come from no model: towards what is opaque or clear in the views, and towards fainter, smaller, rounder splats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rfgs.distill.adam import Adam
from rfgs.distill.settings import DistillConfig
from rfgs.render import Frames
from rfgs.splats import Splats


def backward(loss: Tensor, frames: Frames, config: DistillConfig, progress: float) -> None:
    """`loss.backward()`, and from `opaque_after` on a pull on the alphas of the views, [C, 1, H, W], to 0 or 1.

    It goes down the gradient of alpha (1 - alpha), as threestudio's "opaque" loss does that of alpha's entropy, which has the
    same extremes. In each view it is in units of what the model asks of a pixel: the root mean square of the loss's gradient
    by the colors. What is seen through is a different picture over each background, so that each view may take it for another
    look of the prompt, and never decides: docs/noise.md.

    Args:
        loss: of which only `frames.rgb` depends on what is to be optimized.
        frames: with their graph.
        progress: of the run, in [0, 1].
    """
    if not config.opaque_weight or progress < config.opaque_after:
        loss.backward()
        return
    (asked,) = torch.autograd.grad(loss, frames.rgb)
    size = asked.square().mean((1, 2, 3), keepdim=True).sqrt()
    pull = config.opaque_weight * size * (1 - 2 * frames.alpha.detach())
    # As one number: torch.autograd.backward, given gradients, imports sympy, for 0.3 s.
    ((asked * frames.rgb).sum() + (pull * frames.alpha).sum()).backward()


@torch.no_grad()
def regularize(splats: Splats, optimizer: Adam, config: DistillConfig) -> None:
    """Pull splats, in place, to where no view asks them to be, apart from Adam, as AdamW decays (Loshchilov & Hutter 2019).

    In the loss a pull does nothing, since Adam divides by gradients that grow with the loss's scale. Here all pulls are in
    units of Adam's own step, the learning rate times the agreement m / sqrt(v) in [-1, 1] of the last gradients: a weight of
    0.5 moves a parameter half as fast as gradients that all agree.
    """
    rates = {group["rate"]: group["lr"] for group in optimizer.param_groups}
    if config.opacity_weight:
        logits = splats.logit_opacities
        # Only where the views do not ask for more: what shows little against what is behind it, such as something white, has
        # gradients that agree too little to hold against a pull on all.
        unasked = agreement(optimizer, logits) >= 0
        logits -= rates["lr_opacities"] * config.opacity_weight * unasked
    if config.scale_weight:
        splats.log_scales -= rates["lr_scales"] * (config.scale_weight * splats.scales).clamp_max(1)
    if config.anisotropy_weight:
        # PhysGaussian's (Xie et al. 2024), but in logarithms, so that the pull on a needle is not that of a thousand.
        longest, shortest = (f(splats.log_scales, dim=-1, keepdim=True) for f in (torch.argmax, torch.argmin))
        ratio = splats.log_scales.gather(-1, longest) - splats.log_scales.gather(-1, shortest)
        excess = (ratio - math.log(config.anisotropy_limit)).clamp_min(0)
        pull = (excess / 2).clamp_max(rates["lr_scales"] * config.anisotropy_weight)
        splats.log_scales.scatter_add_(-1, longest, -pull).scatter_add_(-1, shortest, pull)


def agreement(optimizer: Adam, parameter: Tensor) -> Tensor:
    """Mean of a parameter's last gradients over their root mean square, as Adam keeps both, in [-1, 1]; like `parameter`.

    By noise alone it is about 0.23. 0 before there was any gradient.
    """
    state = optimizer.state[parameter]
    beta1, beta2 = optimizer.param_groups[0]["betas"]
    step = state["step"].to(parameter)
    mean = state["exp_avg"] / (1 - beta1**step)
    size = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt()
    return torch.where(size > 0, mean / size, 0).clamp(-1, 1)
