"""The one convention for time, noise and velocity, and what follows from it.

Every prior has a path x_t = alpha(t) x + sigma(t) e from data to noise. For rectified flows t in [0, 1] is the *noise*
fraction: x_t = (1 - t) x + t e, velocity v = e - x. Sampling goes from t = 1 to t = 0 with x += (t_next - t) v. Models that
count otherwise are turned round by their adapter in `rfgs.priors`.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor


class Path(Protocol):
    """The way from data to noise, and what is predicted along it: a part of every `rfgs.priors.base.Prior`."""

    kind: Literal["flow", "diffusion"]
    """"flow" predicts the velocity e - x, "diffusion" the noise e."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of data and noise in x_t = alpha x + sigma e at t [B]: both [B]."""
        ...

    def powers(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha^2 and sigma^2 at t [B], both [B]: apart, since a model's schedule may know them better than their roots."""
        ...


class Flow:
    """The path of all rectified flows. A prior that is one may take it over by inheritance."""

    kind: Literal["flow", "diffusion"] = "flow"

    @staticmethod
    def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
        """1 - t and t, for t [B] in [0, 1] (Esser et al. 2024, equation 13)."""
        return 1 - t, t

    @staticmethod
    def powers(t: Tensor) -> tuple[Tensor, Tensor]:
        """(1 - t)^2 and t^2."""
        return (1 - t).square(), t.square()


class Diffusion:
    """The path of all diffusion models (Ho et al. 2020, equation 4), for a prior that has their schedule, `alpha_bars`.

    Time t in [0, 1] is the fraction of the steps that the model was trained on.
    """

    kind: Literal["flow", "diffusion"] = "diffusion"

    def alpha_bars(self, t: Tensor) -> Tensor:
        """alpha_bar in (0, 1) at t [B]: [B], falling from almost 1 at t = 0."""
        raise NotImplementedError

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""
        data, noise = self.powers(t)
        return data.sqrt(), noise.sqrt()

    def powers(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_bar and 1 - alpha_bar."""
        alpha_bar = self.alpha_bars(t)
        return alpha_bar, 1 - alpha_bar


def per_sample(t: Tensor, like: Tensor) -> Tensor:
    """t [B] with as many trailing axes as `like` [B, ...] has, so that it multiplies each sample."""
    return t.to(like).reshape(-1, *[1] * (like.ndim - 1))


def interpolate(path: Path, x: Tensor, e: Tensor, t: Tensor) -> Tensor:
    """x_t = alpha x + sigma e, all [B, ...], t [B]."""
    alpha, sigma = (per_sample(share, x) for share in path.alpha_sigma(t))
    return alpha * x + sigma * e


def estimate_x0(path: Path, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
    """The clean sample that a prediction at x_t [B, ...] points to.

    Of a velocity v it is x_t - t v, and of a noise e (x_t - sigma e) / alpha.
    """
    alpha, sigma = (per_sample(share, x_t) for share in path.alpha_sigma(t))
    data = x_t - sigma * prediction
    return data if path.kind == "flow" else data / alpha


def estimate_noise(path: Path, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
    """The noise that a prediction at x_t [B, ...] points to: x_t + (1 - t) v of a velocity v, and a noise is itself."""
    alpha, _ = (per_sample(share, x_t) for share in path.alpha_sigma(t))
    return x_t + alpha * prediction if path.kind == "flow" else prediction


def classifier_free(text: Tensor, null: Tensor, guidance_scale: float) -> Tensor:
    """null + s (text - null), diffusers' convention: s = 1 is no guidance (Ho & Salimans 2022, s = w + 1).

    It is linear in the predictions, and so the same for velocities and noises.
    """
    return null + guidance_scale * (text - null)


def noise_range_at(
    progress: float, first: tuple[float, float], last: tuple[float, float]
) -> tuple[float, float]:
    """The range of noise fractions at `progress` in [0, 1], linear from `first` to `last`."""
    low, high = ((1 - progress) * a + progress * b for a, b in zip(first, last, strict=True))
    return low, high


def draw_times(
    count: int, noise_range: tuple[float, float], generator: torch.Generator, *, shift: float = 1.0
) -> Tensor:
    """[count] noise fractions, one in each of `count` equal parts of the range, in random order: even over a batch.

    Args:
        shift: s of t = s u / (1 + (s - 1) u) (Esser et al. 2024, equation 23), where u is drawn evenly and both ends stay
            what they are: above 1 there is more of much noise. With 3, and u from 0.02 to 0.70, it is how the authors' code
            draws times for SD3, of which 29 % are above 0.75.
    """
    low, high = (t / (shift - (shift - 1) * t) for t in noise_range)
    order = torch.randperm(count, generator=generator)
    u = low + (high - low) * (order + torch.rand(count, generator=generator)) / count
    return u if shift == 1 else shift * u / (1 + (shift - 1) * u)
