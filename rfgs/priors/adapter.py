"""What all adapters share: where their parts are and compute, prompts, images, and the sampler of the flows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from rfgs.models.about import about
from rfgs.models.distilled import is_distilled
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition, Prior, guided, in_batches
from rfgs.priors.parts import Setup, enough_memory
from rfgs.priors.text import TextSide, text_key


class Adapter:
    """A model in diffusers' layout; the families below add their path, and what their network predicts (`_predict`)."""

    text: TextSide
    max_batch: int | None = None
    """Samples in one evaluation of the network without gradient; more are done one batch after the other. None: no limit."""

    def __init__(self, name: str, source: str, setup: Setup, network: Any, autoencoder: Autoencoder) -> None:
        self.name, self.source, self.setup = name, source, setup
        self.network, self.autoencoder = network, autoencoder
        self.device, self.dtype = setup.device, network.dtype
        self.vocabulary = about(source).vocabulary
        self.distilled = is_distilled(name) or is_distilled(source)
        """Whether guidance is baked in: it is then at its best without."""

    def embed(self, prompts: Sequence[str]) -> Condition:
        """B prompts as the model's own pipeline embeds them; the text encoders are loaded if one of them is new.

        Raises:
            UserError: a text encoder that is not whole, or does not fit.
        """
        with enough_memory(self.name):
            return self.text(prompts)

    def release_text(self) -> None:
        """Free the text encoders' memory; a new prompt loads them again for a moment."""
        self.text.release()

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, c, H/f, W/f], f the pixels per latent; UserError for sizes that leave a
        rest."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, c, h, w] to images [B, 3, f h, f w] in [0, 1]."""
        return self.autoencoder.decode(latents)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Velocity or noise at x_t [B, c, h, w], t [B], float32.

        With gradients on, all samples are evaluated at once: what they keep for the way back is kept anyway.
        """
        size = None if torch.is_grad_enabled() else self.max_batch
        return in_batches(self._predict, x_t, t, condition, size)

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The same in one evaluation of the network."""
        raise NotImplementedError

    def _load_text(self) -> Any:
        """The text encoders, for `_embed`."""
        raise NotImplementedError

    def _embed(self, text: Any, prompts: Sequence[str]) -> Condition:
        """B prompts, by what `_load_text` gave."""
        raise NotImplementedError

    def _text_side(self, *what: str, kept: bool = True) -> TextSide:
        """What embeds prompts; embeddings are kept on disk, if they are, by all that they depend on, and `what` else."""
        key = text_key(self.source, self.setup, *what) if kept else None
        return TextSide(self._load_text, self._embed, device=self.device, dtype=self.dtype, key=key)

    def _noise(self, count: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
        return torch.randn((count, channels, side, side), generator=generator).to(self.device)


@torch.no_grad()
def sample_flow(
    prior: Prior, x: Tensor, times: Tensor, condition: Condition, negative: Condition, guidance_scale: float
) -> Tensor:
    """Latents [B, c, h, w] by Euler steps from the noise x along `times` [steps + 1], which fall from 1 to 0."""
    for t, after in pairwise(times.to(x)):
        v = guided(prior, x, t.expand(len(x)), condition, negative, guidance_scale)
        x = x + (after - t) * v
    return x
