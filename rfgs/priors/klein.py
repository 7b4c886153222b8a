"""FLUX.2 [klein] (Black Forest Labs 2026): rectified flows in the house's convention, whose prompts Qwen3 reads.

Latents are [B, 128, h, w] at 16 pixels each: the autoencoder's, 2 x 2 to one, normalized by its statistics
(`rfgs.priors.autoencoder`). The network takes each as a token, and four numbers for where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rfgs.priors.base import Condition, Recipe
from rfgs.priors.qwen import QwenAdapter, read
from rfgs.priors.text import TextPart

_LAYERS = (9, 18, 27)
"""Of Qwen3, whose outputs the network reads."""


class KleinPrior(QwenAdapter):
    """A `Prior` of the family; made by `load`."""

    key, title = "klein", "FLUX.2"
    network_class = "diffusers.models.transformers.transformer_flux2:Flux2Transformer2DModel"

    # FlowEdit's scales for SD3 are half and twice the 7 that it is sampled with; klein is sampled with 4. *Untested on hardware.*
    recipe = Recipe(edits={"source_scale": 2.0, "target_scale": 8.0})

    def _log_shift(self, tokens: int, steps: int) -> float:
        return log_shift(tokens, steps)

    def _embed(self, qwen: TextPart, prompts: Sequence[str]) -> Condition:
        """Tokens [B, 512, 3 D], padding among them, as the network was trained."""
        return Condition(read(qwen, prompts, layers=_LAYERS, thinking=False, tokens=self._tokens)[0])

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v at x_t [B, 128, h, w]. The network multiplies the time t by 1000 itself."""
        height, width = x_t.shape[-2:]
        output = self.network(
            hidden_states=x_t.flatten(2).mT.to(self.dtype),
            encoder_hidden_states=condition.tokens,
            # The sampler rounds the time label, 1000 t, to the embeddings' precision.
            timestep=(1000 * t.to(self.device)).to(self.dtype) / 1000,
            img_ids=positions(height, width, 1).to(self.device),
            txt_ids=positions(1, 1, condition.tokens.shape[1]).to(self.device),
            guidance=None,
            return_dict=False,
        )[0]
        return output.float().mT.unflatten(2, (height, width))


def log_shift(tokens: int, steps: int) -> float:
    """Larger images are drawn with more noise, and fewer steps too: linear in both (diffusers' `compute_empirical_mu`)."""
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return at_200
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    return at_200 + (at_200 - at_10) / 190 * (steps - 200)


def positions(height: int, width: int, length: int) -> Tensor:
    """[height * width * length, 4]: zero, row, column and place in the text of each token."""
    return torch.cartesian_prod(*(torch.arange(count) for count in (1, height, width, length)))
