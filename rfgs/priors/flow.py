"""The one convention for time, noise and velocity, and what follows from it.

t in [0, 1] is the *noise* fraction: x_t = (1 - t) x + t e, velocity v = e - x. Sampling goes from t = 1 to t = 0 with
x += (t_next - t) v. Models that count otherwise are turned round by their adapter in `rfgs.priors`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def per_sample(t: Tensor, like: Tensor) -> Tensor:
    """t [B] with as many trailing axes as `like` [B, ...] has, so that it multiplies each sample."""
    return t.to(like).reshape(-1, *[1] * (like.ndim - 1))


def interpolate(x: Tensor, e: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x + t e, all [B, ...], t [B] in [0, 1] (Esser et al. 2024, equation 13)."""
    t = per_sample(t, x)
    return (1 - t) * x + t * e


def estimate_x0(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The clean sample that v points to: x0_hat = x_t - t v."""
    return x_t - per_sample(t, x_t) * v


def estimate_noise(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The noise that v points away to: e_hat = x_t + (1 - t) v."""
    return x_t + (1 - per_sample(t, x_t)) * v


def classifier_free(v_text: Tensor, v_null: Tensor, guidance_scale: float) -> Tensor:
    """v_null + s (v_text - v_null), diffusers' convention: s = 1 is no guidance (Ho & Salimans 2022, s = w + 1)."""
    return v_null + guidance_scale * (v_text - v_null)


def noise_range_at(
    progress: float, first: tuple[float, float], last: tuple[float, float]
) -> tuple[float, float]:
    """The range of noise fractions at `progress` in [0, 1], linear from `first` to `last`."""
    low, high = ((1 - progress) * a + progress * b for a, b in zip(first, last, strict=True))
    return low, high


def draw_times(count: int, noise_range: tuple[float, float], generator: torch.Generator) -> Tensor:
    """[count] noise fractions, one in each of `count` equal parts of the range, in random order: even over a batch."""
    low, high = noise_range
    order = torch.randperm(count, generator=generator)
    return low + (high - low) * (order + torch.rand(count, generator=generator)) / count
