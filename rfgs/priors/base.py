"""What a 2D text-to-image model has to offer to be distilled: the `Prior` protocol and the condition it makes of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from rfgs.flow import classifier_free


@dataclass(frozen=True, eq=False)
class Condition:
    """B embedded prompts: tokens [B, L, D] and, for models that have it, a pooled vector [B, P]."""

    tokens: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int | slice | Sequence[int]) -> Condition:
        """The prompts chosen, always as a batch."""
        index = [index] if isinstance(index, int) else index
        return Condition(self.tokens[index], None if self.pooled is None else self.pooled[index])

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """One batch of all."""
        pooled = [c.pooled for c in conditions if c.pooled is not None]
        return Condition(torch.cat([c.tokens for c in conditions]), torch.cat(pooled) if pooled else None)


class Prior(Protocol):
    """A frozen text-to-image model in the house's conventions (`rfgs.flow`); no gradient reaches its network."""

    name: str
    kind: Literal["flow", "diffusion"]
    image_size: int
    """Width and height of the images it is best at, pixels."""
    vocabulary: frozenset[str] | None
    """The words it was trained on, in lower case; None where any text makes sense."""

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Embed B prompts."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, c, h, w]; differentiable."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, c, h, w] to images [B, 3, H, W] in [0, 1]."""
        ...

    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v = e - x at x_t [B, c, h, w], noise fraction t [B]; float32, without gradient."""
        ...

    def sample(
        self,
        condition: Condition,
        negative: Condition,
        *,
        steps: int,
        guidance_scale: float,
        generator: torch.Generator,
        size: int | None = None,
    ) -> Tensor:
        """B images [B, 3, size, size] in [0, 1] for B conditions, as the model's own sampler makes them."""
        ...


def guided_velocity(
    prior: Prior, x_t: Tensor, t: Tensor, condition: Condition, negative: Condition, guidance_scale: float
) -> Tensor:
    """Classifier-free guided velocity [B, c, h, w] in one batched evaluation, order (text, null); B evaluations if s = 1."""
    if guidance_scale == 1:
        return prior.velocity(x_t, t, condition)
    both = Condition.cat([condition, negative])
    v_text, v_null = prior.velocity(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
    # The authors' code guards the same way: half precision may overflow on a random start.
    return torch.nan_to_num(classifier_free(v_text, v_null, guidance_scale))


def unknown_words(prior: Prior, prompt: str) -> list[str]:
    """The words of `prompt` that the prior has never seen, in order; empty where any text makes sense."""
    if prior.vocabulary is None:
        return []
    words = [word.strip(".,;:!?\"'()").lower() for word in prompt.split()]
    return list(dict.fromkeys(word for word in words if word and word not in prior.vocabulary))
