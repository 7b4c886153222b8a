"""What every guidance takes and gives: the settings they share, the estimate they return, the form of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a guidance makes of B latents."""

    loss: Tensor
    """0-d, with a gradient to the latents (or to the noise, for `irfds`)."""
    residual: Tensor
    """0-d, root mean square of the difference that the loss squares."""
    x0_hat: Tensor
    """The prior's one-step estimate of the clean latents, [B, c, h, w]."""
    t: Tensor
    """Noise fractions, [B]."""


def matching_loss(u: Tensor, target: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Squared distance of u [B, c, h, w] to a stopped target: no sign is ever placed by hand, autograd finds it.

    The published gradients, w(t) (v - u), hide the sign of du/dx in w(t) and diverge if taken literally for a model
    with u = x - e. A square against a constant has the right sign in every convention.

    Args:
        reduction: "sum" is 0.5 sum(r^2) / B, whose gradient by u is r / B, whatever the size of the latents; "mean" is
            mean(r^2) / B, the authors' released code, whose gradient by u is 2 r / (N B) with N = numel of the batch.
    """
    difference = u - target.detach()
    if reduction == "sum":
        return 0.5 * difference.square().sum() / len(u)
    return difference.square().mean() / len(u)


def root_mean_square(difference: Tensor) -> Tensor:
    """0-d, without gradient."""
    return torch.sqrt(difference.detach().square().mean())
