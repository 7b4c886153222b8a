"""A flow whose velocity is known in closed form: data N(mu, s2), so every equation can be checked without a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rfgs.priors.base import Condition
from rfgs.priors.flow import Diffusion, Flow, per_sample


class GaussianPrior(Flow):
    """Exact velocity of the rectified flow from N(mu_c, s2) to N(0, 1), where mu_c is the condition's first token."""

    name, image_size, vocabulary = "gaussian", 8, None

    def __init__(self, s2: float = 0.25) -> None:
        self.s2 = s2

    def embed(self, prompts: Sequence[str]) -> Condition:
        return Condition(torch.tensor([[[float(text)]] for text in prompts], dtype=torch.float64))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        mu = per_sample(condition.tokens[:, 0, 0], x_t)
        t = per_sample(t, x_t)
        gain = (1 - t) * self.s2 / ((1 - t) ** 2 * self.s2 + t**2)
        x0_hat = mu + gain * (x_t - (1 - t) * mu)
        return (x_t - x0_hat) / t


class TablePrior(Flow):
    """Answers from a list of given velocities, in order, and remembers what it was asked."""

    name, image_size, vocabulary = "table", 8, None

    def __init__(self, answers: Sequence[Tensor]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Tensor, Tensor, Condition]] = []

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.asked.append((x_t, t, condition))
        return self.answers.pop(0)


class GaussianDiffusion(Diffusion):
    """The diffusion model of the same data; at each t, noise and signal stand to each other as in the flow, t to 1 - t."""

    name, image_size, vocabulary = "gaussian diffusion", 8, None

    def __init__(self, s2: float = 0.25) -> None:
        self.s2 = s2

    embed = GaussianPrior.embed

    def alpha_bars(self, t: Tensor) -> Tensor:
        return (1 - t) ** 2 / ((1 - t) ** 2 + t**2)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        mu, signal = per_sample(condition.tokens[:, 0, 0], x_t), per_sample(self.alpha_sigma(t)[0], x_t)
        gain = signal * self.s2 / (signal**2 * self.s2 + 1 - signal**2)
        x0_hat = mu + gain * (x_t - signal * mu)
        return (x_t - signal * x0_hat) / (1 - signal**2).sqrt()
