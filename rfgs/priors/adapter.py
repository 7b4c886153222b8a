"""What all adapters share: where their parts are and compute, prompts, images, and sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from rfgs.models.about import about
from rfgs.models.distilled import is_distilled
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition, Prior, guided, in_batches
from rfgs.priors.flow import Flow
from rfgs.priors.parts import Setup, enough_memory, read_json
from rfgs.priors.text import TextSide, text_key
from rfgs.priors.unread import Unread

LARGEST = 512
"""Pixels for which big models are asked at most: their native 1024 costs four times the tokens, and every recipe for
distillation renders 512 at most."""


@dataclass(frozen=True)
class Wanted:
    """What images are to show, and how they are drawn."""

    condition: Condition
    negative: Condition
    steps: int
    guidance_scale: float
    generator: torch.Generator
    """For samplers that draw noise on their way."""


class Adapter:
    """A model in diffusers' layout; the families below add their path, and what their network predicts (`_predict`)."""

    text: TextSide
    image_size: int
    grain: int = 1
    """Width and height, in latents, of what its network takes as one token."""
    max_batch: int | None = None
    """Samples in one evaluation of the network without gradient; more are done one batch after the other. None: no limit."""

    def __init__(self, name: str, source: str, setup: Setup, network: Any, autoencoder: Autoencoder) -> None:
        """`network`: a diffusers module, or what stands for it (`rfgs.priors.unread`)."""
        self.name, self.source, self.setup = name, source, setup
        self._network, self.autoencoder = network, autoencoder
        self.device, self.dtype = setup.device, network.dtype
        self.vocabulary = about(source).vocabulary
        self.distilled = is_distilled(name) or is_distilled(source)
        """Whether guidance is baked in: it is then at its best without."""

    @property
    def network(self) -> Any:
        """The diffusers module, which is read now if it was not."""
        return self._network.module if isinstance(self._network, Unread) else self._network

    @property
    def unread(self) -> bool:
        """Whether the network has not been read, and OpenVINO evaluates it without that."""
        return isinstance(self._network, Unread) and not self._network.is_read

    def embed(self, prompts: Sequence[str]) -> Condition:
        """B prompts as the model's own pipeline embeds them; the text encoders are loaded if one of them is new.

        Raises:
            UserError: a text encoder that is incomplete, or does not fit.
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

    @torch.no_grad()
    def sample(
        self, condition: Condition, negative: Condition,
        *, steps: int, guidance_scale: float, generator: torch.Generator, size: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Images [B, 3, size, size] in [0, 1] by the model's own sampler; a size that does not suit it is rounded down."""
        side = (size or self.image_size) // self.autoencoder.factor // self.grain * self.grain
        x = torch.randn((len(condition), self.channels, side, side), generator=generator).to(self.device)
        return self.decode(self._sample(x, Wanted(condition, negative, steps, guidance_scale, generator)))

    @property
    def channels(self) -> int:
        """Of its latents."""
        return int(self._network.config["in_channels"])

    def _sample(self, x: Tensor, wanted: Wanted) -> Tensor:
        """Latents from noise x, both [B, c, h, w]."""
        raise NotImplementedError


class FlowAdapter(Flow, Adapter):
    """A rectified flow with diffusers' Euler scheduler, whose times lean to the noise the more, the larger the images."""

    advised_steps = 50
    """Of its own sampler."""

    def __init__(
        self, name: str, source: str, setup: Setup, network: Any, autoencoder: Autoencoder, scheduler: Any
    ) -> None:
        """`scheduler` is the content of its scheduler_config.json."""
        super().__init__(name, source, setup, network, autoencoder)
        self.scheduler_config = scheduler

    @property
    def time_shift(self) -> float:
        """How far sampling leans to the noise at `image_size`, as SD3 counts it: t = s u / (1 + (s - 1) u), u even."""
        if not self.scheduler_config.get("use_dynamic_shifting"):
            return float(self.scheduler_config.get("shift", 1.0))
        side = self.image_size // (self.grain * self.autoencoder.factor)
        return math.exp(self._log_shift(side * side, self.advised_steps))

    def _log_shift(self, tokens: int, steps: int) -> float:
        """Larger images are drawn with more noise: it grows with the number of tokens (diffusers' `calculate_shift`)."""
        config = self.scheduler_config
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return low + (tokens - few) * (high - low) / (many - few)

    def _times(self, steps: int, side: int) -> Tensor:
        """Those of its own sampler [steps + 1], falling from 1 to 0, for side x side latents."""
        even = [1 - i / steps for i in range(steps)]
        shift = self._log_shift((side // self.grain) ** 2, steps)
        scheduler = self._scheduler()
        scheduler.set_timesteps(sigmas=even, mu=shift)
        return scheduler.sigmas

    def _scheduler(self) -> Any:
        """diffusers' own, whose import takes a while."""
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler.from_config(self.scheduler_config)

    def _sample(self, x: Tensor, wanted: Wanted) -> Tensor:
        times = self._times(wanted.steps, x.shape[-1])
        return sample_flow(self, x, times, wanted.condition, wanted.negative, wanted.guidance_scale)


def load_scheduler(source: str) -> dict[str, Any]:
    """The configuration of the Euler scheduler of the model in a folder."""
    return read_json(source, "scheduler/scheduler_config.json")


@torch.no_grad()
def sample_flow(
    prior: Prior, x: Tensor, times: Tensor, condition: Condition, negative: Condition, guidance_scale: float
) -> Tensor:
    """Latents [B, c, h, w] by Euler steps from the noise x along `times` [steps + 1], which fall from 1 to 0."""
    for t, after in pairwise(times.to(x)):
        v = guided(prior, x, t.expand(len(x)), condition, negative, guidance_scale)
        x = x + (after - t) * v
    return x
