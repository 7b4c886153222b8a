"""Z-Image (Tongyi-MAI 2025): a rectified flow whose prompts Qwen3 reads.

Its network predicts x - e, and its time is the fraction of *data*. In the house's convention that is v = -u at the label 1 - t.
diffusers' pipeline counts guidance from the prompt, u_text + g (u_text - u_null), so that its scale g is g + 1 here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rfgs.priors.base import Condition, Recipe
from rfgs.priors.qwen import QwenAdapter, read
from rfgs.priors.text import TextPart

_LAST_BUT_ONE = (-2,)
"""Layer of Qwen3 whose output the network reads."""


class ZImagePrior(QwenAdapter):
    """A `Prior` of the family; made by `load`."""

    key, title = "z-image", "Z-Image"
    network_class = "diffusers.models.transformers.transformer_z_image:ZImageTransformer2DModel"

    grain = 2
    # FlowEdit's scales for SD3 are half and twice the 7 that it is sampled with; Z-Image is sampled with 4 to 6 as counted here.
    # *Untested on hardware.*
    recipe = Recipe(edits={"source_scale": 2.5, "target_scale": 10.0})

    def _embed(self, qwen: TextPart, prompts: Sequence[str]) -> Condition:
        """Tokens [B, 512, D]: the prompt's own come first, and zeros behind them, so that prompts can be mixed and stacked."""
        states, mask = read(qwen, prompts, layers=_LAST_BUT_ONE, thinking=True, tokens=self._tokens)
        tokens = torch.zeros_like(states)
        for one, state, own in zip(tokens, states, mask, strict=True):
            one[: int(own.sum())] = state[own]
        return Condition(tokens)

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v at x_t [B, 16, h, w], h and w even. The network wants each sample and each prompt by itself, without padding."""
        lengths = condition.tokens.any(dim=-1).sum(dim=-1).tolist()
        output = self.network(
            list(x_t.to(self.dtype).unsqueeze(2)),  # One frame of a film.
            1 - t.to(self.device),
            [tokens[:length] for tokens, length in zip(condition.tokens, lengths, strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(output).squeeze(2).float()
