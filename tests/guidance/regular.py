"""The analytic flow in a form that is regular at t = 0 too, where inversion starts."""

from __future__ import annotations

from torch import Tensor

from rfgs.priors.base import Condition
from rfgs.priors.flow import per_sample
from tests.guidance.analytic import GaussianPrior

MU = 0.75
"""A mean that is its own text."""


class RegularGaussianPrior(GaussianPrior):
    """v = E[e - x | x_t] = -mu + (t - (1 - t) s2) / ((1 - t)^2 s2 + t^2) (x_t - (1 - t) mu)."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        mu = per_sample(condition.tokens[:, 0, 0], x_t)
        t = per_sample(t, x_t)
        slope = (t - (1 - t) * self.s2) / ((1 - t) ** 2 * self.s2 + t**2)
        return -mu + slope * (x_t - (1 - t) * mu)
