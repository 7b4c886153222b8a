"""What a 2D text-to-image model has to offer to be distilled: the protocol, and the condition that it makes of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Recipe:
    """What a model wants otherwise than is usual for its kind and size: settings by name.

    What is usual have `rfgs.distill.recipes` and `rfgs.flat.recipes`, which read this.
    """

    splats: Mapping[str, Any] = field(default_factory=dict)
    """Of `rfgs.distill.DistillConfig`."""
    images: Mapping[str, Any] = field(default_factory=dict)
    """Of `rfgs.flat.particles.ParticleConfig`."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """Of `rfgs.guidance.flowedit.FlowEditConfig`."""


class Prior(Protocol):
    """A frozen text-to-image model in the house's conventions (`rfgs.priors.flow`): a rectified flow or a diffusion model.

    An adapter is a plain class that has these, one module a family of models. It may also have, and is taken to have none
    where it does not: `recipe: Recipe`; `distilled: bool`, whether guidance is baked in (`rfgs.models.distilled`);
    `time_shift: float`, how far its own sampler leans to the noise (1, not at all);
    `max_batch: int | None`, the samples of one evaluation of its network; `release_text()`, which frees its text encoders;
    `network`, which can be adapted (`Trainable`); `dtype` and `device`.
    """

    name: str
    kind: Literal["flow", "diffusion"]
    """What it predicts: "flow" the velocity e - x, "diffusion" the noise e."""
    image_size: int
    """Width and height of the images it is best at, pixels."""
    vocabulary: frozenset[str] | None
    """The words it was trained on, in lower case; None where any text makes sense."""

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Embed B prompts. The loops ask for the same ones in each step, so what is costly has to be remembered."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, c, h, w]; differentiable."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, c, h, w] to images [B, 3, H, W] in [0, 1]."""
        ...

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of data and noise in x_t = alpha x + sigma e at t [B]: both [B], alpha falling from almost 1.

        A flow's are 1 - t and t, where t is the fraction of noise (`rfgs.priors.flow.Flow` has them). A diffusion model's are
        sqrt(alpha_bar) and sqrt(1 - alpha_bar) (`rfgs.priors.flow.Diffusion`), where t is the fraction of the steps that it
        was trained on; it rounds t to the nearest of them as `predict` does, so that both speak of one noise level.
        """
        ...

    def powers(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha^2 and sigma^2: of a diffusion model alpha_bar and 1 - alpha_bar."""
        ...

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Velocity or noise at x_t [B, c, h, w], t [B], as `kind` says; float32.

        Under `torch.no_grad()` nothing is kept for a way back. With gradients on, those reach x_t and the weights of
        `network` that want one; a model without a network may give none.
        """
        ...

    def sample(
        self, condition: Condition, negative: Condition,
        *, steps: int, guidance_scale: float, generator: torch.Generator, size: int | None = None,
    ) -> Tensor:  # fmt: skip
        """B images [B, 3, size, size] in [0, 1] for B conditions, as the model's own sampler makes them."""
        ...


class Trainable(Protocol):
    """What a prior offers beside its protocol where its network can be adapted (LoRA, for VSD); all adapters here do."""

    network: Any
    """diffusers' module (`UNet2DConditionModel`, `SD3Transformer2DModel`, ...), in evaluation mode, its weights frozen:
    `network.add_adapter(peft.LoraConfig(...))` puts trainable weights beside them, which `predict` then sees, and
    `network.disable_adapters()` leaves the prior as it was."""


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


@torch.no_grad()
def guided(
    prior: Prior, x_t: Tensor, t: Tensor, condition: Condition, negative: Condition, guidance_scale: float
) -> Tensor:
    """The prediction with classifier-free guidance, [B, c, h, w], without gradient: no guidance wants one of its network.

    One batched evaluation, order (text, null); B samples if s = 1.

    What overflowed in half precision stays infinite or NaN, and the loops skip its gradient (`rfgs.distill.gradients`). The
    authors' `nan_to_num` makes it the largest number there is, which spoils Adam's moments for good.
    """
    if guidance_scale == 1:
        return prior.predict(x_t, t, condition)
    both = Condition.cat([condition, negative])
    text, null = prior.predict(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
    return classifier_free(text, null, guidance_scale)


def is_small(prior: Prior) -> bool:
    """Whether it is one of the small models, which say which words they know; `rfgs.models.about` tells it before loading."""
    return prior.vocabulary is not None


def unknown_words(prior: Prior, prompt: str) -> list[str]:
    """The words of `prompt` that the prior has never seen, in order; empty where any text makes sense."""
    return Knowledge("", prior.vocabulary).unknown_words(prompt)
