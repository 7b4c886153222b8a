"""What a noisy latent may have been, in closed form: the posterior mean under pictures that are known, over any grey.

A rectified flow's best answer is E[x | x_t] (Lipman et al. 2023, theorem 1): where all pictures are known it is a sum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import log_ndtr


def grey_behind(best: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """The grey of a background that is uniform in [0, 1] a priori and seen as `best` +- `spread` (a Gaussian): any shape.

    Returns:
        The logarithm of the evidence, log int_0^1 exp(-(g - best)^2 / (2 spread^2)) dg, and the mean of g.
    """
    best, spread = best.double(), spread.double()
    low, high = -best / spread, (1 - best) / spread
    # The tail that is summed must be the near one: 1 - 1e-30 is 1. So both limits are mirrored where they are above 0.
    flip = low > 0
    a, b = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_b, log_a = log_ndtr(b), log_ndtr(a)
    log_share = log_b + torch.log(-torch.expm1((log_a - log_b).clamp_max(-1e-300)))
    log_peak = -0.5 * math.log(2 * math.pi)
    mean = torch.exp(log_peak - low.square() / 2 - log_share) - torch.exp(
        log_peak - high.square() / 2 - log_share
    )
    evidence = log_share + spread.log() - log_peak
    return evidence, (best + spread * mean).clamp(0, 1)


def posterior_mean(
    x_t: Tensor, t: Tensor, objects: Tensor, backdrops: Tensor, there: Tensor | None = None
) -> Tensor:
    """E[x | x_t] [B, D] where x is one of K pictures, all equally likely, over a grey g uniform in [0, 1].

    Args:
        x_t: (1 - t) x + t e, [B, D], with t [B] in (0, 1].
        objects, backdrops: x = objects + g backdrops, [B, K, D].
        there: [B, K], which of them count; None counts all.
    """
    keep = (1 - t)[:, None]
    rest = torch.addcmul(x_t[:, None], -keep[..., None], objects)
    along = torch.linalg.vecdot(rest, backdrops)
    across = torch.linalg.vecdot(backdrops, backdrops).clamp_min(1e-12)
    # What no grey explains is measured on the rest itself: as a difference of squares it would drown in rounding at small t.
    rest.addcmul_(-(along / across)[..., None], backdrops)
    misfit = torch.linalg.vecdot(rest, rest).double()
    # At t = 1 nothing is seen of x: the prior's mean, by a limit that floats can take.
    seen = keep.clamp_min(1e-6)
    evidence, grey = grey_behind(along / (seen * across), t[:, None] / (seen * across.sqrt()))
    score = evidence - misfit / (2 * t[:, None].double().square())
    if there is not None:
        score = score.masked_fill(~there, -math.inf)
    weights = torch.softmax(score, dim=1).to(x_t)
    return torch.einsum("bk,bkd->bd", weights, objects) + torch.einsum(
        "bk,bkd->bd", weights * grey.to(x_t), backdrops
    )
