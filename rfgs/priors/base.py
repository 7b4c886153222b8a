"""What a 2D text-to-image model has to offer to be distilled: protocols, and the condition that it makes of text.

`Prior` is a rectified flow (a velocity), `DiffusionPrior` a diffusion model (a noise and its alpha_bar); what they share
is `TextToImage`. An adapter is a plain class that has these methods, one module a family of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from rfgs.models.words import Knowledge
from rfgs.priors.flow import classifier_free


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

    def to(self, device: torch.device, dtype: torch.dtype) -> Condition:
        """The same on another device, in another precision."""
        return Condition(
            self.tokens.to(device, dtype), None if self.pooled is None else self.pooled.to(device, dtype)
        )

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """One batch of all."""
        pooled = [c.pooled for c in conditions if c.pooled is not None]
        return Condition(torch.cat([c.tokens for c in conditions]), torch.cat(pooled) if pooled else None)


class TextToImage(Protocol):
    """What every frozen text-to-image model offers, whatever it predicts."""

    name: str
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


class Prior(TextToImage, Protocol):
    """A rectified flow in the house's conventions (`rfgs.priors.flow`); no gradient reaches its network."""

    kind: Literal["flow", "diffusion"]
    """Always "flow"."""

    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v = e - x at x_t [B, c, h, w], noise fraction t [B]; float32, without gradient."""
        ...


class DiffusionPrior(TextToImage, Protocol):
    """A diffusion model: x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) e; no gradient reaches its network.

    Time t in [0, 1] is the fraction of the 1000 steps that the model was trained on. Both methods round it to the same
    step, the nearest of 0..999, so that they always speak of one noise level.
    """

    kind: Literal["flow", "diffusion"]
    """Always "diffusion"."""

    def alpha_bars(self, t: Tensor) -> Tensor:
        """alpha_bar in (0, 1) at t [B]: float32 [B], falling from almost 1 at t = 0."""
        ...

    def epsilon(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The noise that the model finds in x_t [B, c, h, w]; float32, without gradient."""
        ...


class Trainable(Protocol):
    """What a prior offers beside its protocol where its network can be adapted (LoRA, for VSD); all adapters here do."""

    network: Any
    """diffusers' module (`UNet2DConditionModel`, `SD3Transformer2DModel`, ...), in evaluation mode, its weights frozen:
    `network.add_adapter(peft.LoraConfig(...))` puts trainable weights beside them, and `network.disable_adapters()`
    leaves the prior as it was."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """`velocity` or `epsilon`, but with a gradient to x_t and to those weights of `network` that want one."""
        ...


def in_batches(
    evaluate: Callable[[Tensor, Tensor, Condition], Tensor],
    x_t: Tensor,
    t: Tensor,
    condition: Condition,
    size: int | None,
) -> Tensor:
    """`evaluate(x_t, t, condition)`, with at most `size` samples at a time; None takes all at once."""
    if size is None or len(x_t) <= size:
        return evaluate(x_t, t, condition)
    starts = range(0, len(x_t), size)
    return torch.cat([evaluate(x_t[i : i + size], t[i : i + size], condition[i : i + size]) for i in starts])


def guided_velocity(
    prior: Prior, x_t: Tensor, t: Tensor, condition: Condition, negative: Condition, guidance_scale: float
) -> Tensor:
    """Classifier-free guided velocity [B, c, h, w] in one batched evaluation, order (text, null); B evaluations if s = 1.

    What overflowed in half precision stays infinite or NaN, and the loops skip its gradient (`rfgs.distill.gradients`). The
    authors' `nan_to_num` makes it the largest number there is, which spoils Adam's moments for good.
    """
    if guidance_scale == 1:
        return prior.velocity(x_t, t, condition)
    both = Condition.cat([condition, negative])
    v_text, v_null = prior.velocity(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
    return classifier_free(v_text, v_null, guidance_scale)


def guided_epsilon(
    prior: DiffusionPrior,
    x_t: Tensor,
    t: Tensor,
    condition: Condition,
    negative: Condition,
    guidance_scale: float,
) -> Tensor:
    """`guided_velocity` of a diffusion model: eps_null + s (eps_text - eps_null), [B, c, h, w]."""
    if guidance_scale == 1:
        return prior.epsilon(x_t, t, condition)
    both = Condition.cat([condition, negative])
    eps_text, eps_null = prior.epsilon(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
    return classifier_free(eps_text, eps_null, guidance_scale)


def unknown_words(prior: TextToImage, prompt: str) -> list[str]:
    """The words of `prompt` that the prior has never seen, in order; empty where any text makes sense."""
    return Knowledge("", prior.vocabulary).unknown_words(prompt)
