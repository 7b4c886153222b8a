"""Perp-Neg: a view is pushed away from looking like other views, without being pushed off its own prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rfgs.priors.base import Condition, Prior, guided


@dataclass(frozen=True, eq=False)
class Others:
    """For each of B views, K prompts that it should not look like."""

    conditions: tuple[Condition, ...]
    """K conditions of B prompts."""
    weights: Tensor
    """How strongly, [B, K], none of them positive."""


def perp_neg(
    text: Tensor, null: Tensor, others: list[Tensor], weights: Tensor, guidance_scale: float
) -> Tensor:
    """Perp-Neg (Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm").

        null + s (d + sum_k w_k perp(other_k - null, d)),   d = text - null,   perp(a, b) = a - (a.b / b.b) b

    Only what is perpendicular to the prompt's own direction is taken from the others, so that what two prompts have in
    common is never removed. It is linear geometry on predictions, so that it holds for velocities as for noises.

    Args:
        text, null: predictions of velocity or noise, [B, c, h, w].
        others: K such predictions under the other prompts.
        weights: [B, K], negative to push away.
    """
    axes = tuple(range(1, text.ndim))
    own = text - null
    length = own.square().sum(axes, keepdim=True).clamp_min(1e-6)
    direction = own
    for other, weight in zip(others, weights.unbind(1), strict=True):
        away = other - null
        perpendicular = away - (away * own).sum(axes, keepdim=True) / length * own
        direction = direction + weight.to(own).reshape(-1, *[1] * len(axes)) * perpendicular
    return null + guidance_scale * direction


@torch.no_grad()
def guided_prediction(
    prior: Prior,
    x_t: Tensor,
    t: Tensor,
    condition: Condition,
    negative: Condition,
    guidance_scale: float,
    others: Others | None = None,
) -> Tensor:
    """The guided velocity of a flow, or the guided noise of a diffusion model, [B, c, h, w]; without gradient.

    B, 2 B or, with K `others`, (2 + K) B evaluations of the network in one batch.
    """
    if others is None:
        return guided(prior, x_t, t, condition, negative, guidance_scale)
    count = 2 + len(others.conditions)
    every = Condition.cat([condition, negative, *others.conditions])
    text, null, *rest = prior.predict(torch.cat([x_t] * count), torch.cat([t] * count), every).chunk(count)
    return perp_neg(text, null, list(rest), others.weights, guidance_scale)
