"""A prior for images known in closed form: latents are blocks of 4x4 pixels, and each prompt is Gaussian around a grey."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from rfgs.priors.base import Condition
from rfgs.priors.flow import Flow, per_sample

GREYS = {"": 0.0, "dark": -0.5, "light": 0.5}
"""Mean latent by prompt; the picture's grey is (mean + 1) / 2."""
S = 0.2


class FlatPrior(Flow):
    """Data N(mu, S^2) for each latent by itself."""

    name, image_size, vocabulary = "flat", 32, frozenset(GREYS)

    def embed(self, prompts: Sequence[str]) -> Condition:
        return Condition(torch.tensor([[[GREYS[prompt]]] for prompt in prompts]))

    def encode(self, images: Tensor) -> Tensor:
        return 2 * avg_pool2d(images.clamp(0, 1), 4) - 1

    def decode(self, latents: Tensor) -> Tensor:
        return interpolate((latents / 2 + 0.5).clamp(0, 1), scale_factor=4.0)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        if x_t.shape[-1] > 32:
            raise ValueError("too large for the positional embedding")
        mu, t = per_sample(condition.tokens[:, 0, 0], x_t), per_sample(t, x_t)
        slope = (t - (1 - t) * S**2) / ((1 - t) ** 2 * S**2 + t**2)
        return -mu + slope * (x_t - (1 - t) * mu)
