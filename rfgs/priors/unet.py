"""What models in Stable Diffusion's layout share: a UNet, one CLIP text encoder, 4-channel latents.

`rfgs.priors.sd` makes a diffusion prior of it and `rfgs.priors.instaflow` a rectified flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition
from rfgs.priors.parts import about, load_module, read_json, vocabulary, whole_model
from rfgs.priors.text import TextPart, TextSide, load_text


class UNetModel:
    """Loading, text and images of the family; made by `load`."""

    max_batch: int | None = None
    """Samples in one evaluation of the network; more are done one batch after the other. None: no limit."""

    def __init__(
        self, name: str, source: str, network: Any, autoencoder: Autoencoder, scheduler: dict[str, Any]
    ) -> None:
        """`scheduler` is the content of its scheduler_config.json."""
        self.name, self.source, self.network, self.autoencoder = name, source, network, autoencoder
        self.device, self.dtype = network.device, network.dtype
        self.scheduler_config = scheduler
        self.image_size = network.config.sample_size * autoencoder.factor
        self.vocabulary = vocabulary(about(source))
        self.text = TextSide(
            self._load_text,
            lambda clip, prompts: Condition(clip.encoder(clip.ids(prompts))[0]),
            device=self.device,
            dtype=self.dtype,
        )

    @classmethod
    def load(cls, source: str, *, name: str, device: torch.device, dtype: torch.dtype) -> Any:
        """From a folder or hub id; the text encoder follows when a prompt needs it."""
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        with whole_model(name, "Stable Diffusion"):
            scheduler = read_json(source, "scheduler/scheduler_config.json")
            autoencoder = Autoencoder.load(source, device=device)
            network = load_module(UNet2DConditionModel, source, "unet", device=device, dtype=dtype)
        return cls(name, source, network, autoencoder, scheduler)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Tokens [B, 77, D]: the text encoder's last hidden states, as the pipeline has them."""
        return self.text(prompts)

    def release_text(self) -> None:
        """Free the text encoder's memory; a new prompt loads it again for a moment."""
        self.text.release()

    def _load_text(self) -> TextPart:
        from transformers import CLIPTextModel, CLIPTokenizer

        with whole_model(self.name, "Stable Diffusion"):
            return load_text(
                CLIPTextModel, CLIPTokenizer, self.source, "", device=self.device, dtype=self.dtype
            )

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1], multiples of 8, to latents [B, 4, H/8, W/8]."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, 4, h, w] to images [B, 3, 8h, 8w] in [0, 1]."""
        return self.autoencoder.decode(latents)

    def _evaluate(self, x_t: Tensor, label: Tensor, condition: Condition) -> Tensor:
        """The network's own output at its own time label [B], float32."""
        output = self.network(
            x_t.to(self.dtype), label.to(self.device), condition.tokens.to(self.dtype), return_dict=False
        )
        return output[0].float()

    def _noise(self, count: int, size: int | None, generator: torch.Generator) -> Tensor:
        side = (size or self.image_size) // self.autoencoder.factor
        shape = (count, self.network.config.in_channels, side, side)
        return torch.randn(shape, generator=generator).to(self.device)
