"""FLUX.1 dev and schnell (Black Forest Labs 2024): rectified flows in the house's convention, without a CFG of their own.

Four neighboring latents make one token: the network takes [B, h/2 * w/2, 4 c] and the positions of its tokens, which is
undone here, so that guidance sees latents [B, 16, h, w] as everywhere. `dev` was distilled to draw what classifier-free
guidance would have drawn, and takes the guidance scale as an input: that is `distilled_guidance`. `schnell` was distilled
to a few steps and has no such input. Guidance on top of it (`rfgs.priors.guided`) works, at small scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rfgs.models.about import about
from rfgs.priors.adapter import LARGEST, FlowAdapter, load_scheduler
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition
from rfgs.priors.parts import Setup, check_width, load_network, read_json, whole_model
from rfgs.priors.text import TextPart, load_clip, load_t5

_NETWORK = "diffusers.models.transformers.transformer_flux:FluxTransformer2DModel"


class FluxPrior(FlowAdapter):
    """A `Prior` of the family; made by `load`."""

    grain = 2
    distilled_guidance: float = 3.5
    """The guidance scale that `dev` imitates in every evaluation; ignored by `schnell`."""

    def __init__(
        self, name: str, source: str, setup: Setup, network: Any, autoencoder: Autoencoder, scheduler: Any
    ) -> None:
        super().__init__(name, source, setup, network, autoencoder, scheduler)
        size = (
            network.config.get("sample_size") or 128
        )  # Latents; FLUX's configuration says nothing, its sampler 128.
        said = about(source)
        self.image_size = said.image_size or min(size * autoencoder.factor, LARGEST)
        # schnell was trained on 256 tokens of text, dev on 512.
        self._t5_tokens = said.max_sequence_length or (512 if network.config.guidance_embeds else 256)
        self.text = self._text_side("flux", str(self._t5_tokens))

    @property
    def channels(self) -> int:
        return int(self.network.config.in_channels // 4)

    @classmethod
    def load(cls, source: str, *, name: str, setup: Setup) -> FluxPrior:
        """From the folder `source`; the text encoders follow when a prompt needs them."""
        with whole_model(name, "FLUX"):
            scheduler = load_scheduler(source)
            config = read_json(source, "transformer/config.json")
            pooled, joint = config.get("pooled_projection_dim"), config.get("joint_attention_dim")
            check_width(source, ("text_encoder",), "hidden_size", pooled, "transformer")
            check_width(source, ("text_encoder_2",), "d_model", joint, "transformer")
            latents = config["in_channels"] // 4 if "in_channels" in config else None
            check_width(source, ("vae",), "latent_channels", latents, "transformer")
            autoencoder = Autoencoder.load(source, device=setup.home, grain=2, file=setup.file)
            network = load_network(_NETWORK, source, "transformer", setup)
        return cls(name, source, setup, network, autoencoder, scheduler)

    def _embed(self, parts: tuple[TextPart, TextPart], prompts: Sequence[str]) -> Condition:
        """Tokens [B, T, 4096] of T5 and pooled [B, 768] of CLIP."""
        clip, t5 = parts
        tokens = t5.encoder(t5.ids(prompts, self._t5_tokens))[0]
        pooled = clip.encoder(clip.ids(prompts)).pooler_output
        return Condition(tokens, pooled)

    def _load_text(self) -> tuple[TextPart, TextPart]:
        with whole_model(self.name, "FLUX"):
            return (
                load_clip(self.source, "", self.setup),
                load_t5(self.source, "_2", self.setup),
            )

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v at x_t [B, 16, h, w], h and w even. The network multiplies the time t by 1000 itself."""
        guidance = None
        if self.network.config.guidance_embeds:
            guidance = torch.full((len(x_t),), self.distilled_guidance, device=self.device)
        height, width = x_t.shape[-2] // 2, x_t.shape[-1] // 2
        output = self.network(
            hidden_states=pack(x_t).to(self.dtype),
            encoder_hidden_states=condition.tokens,
            pooled_projections=condition.pooled,
            # The sampler rounds the time label, 1000 t, to the network's precision.
            timestep=(1000 * t.to(self.device)).to(self.dtype) / 1000,
            guidance=guidance,
            img_ids=positions(height, width, self.device).to(self.dtype),
            txt_ids=torch.zeros(condition.tokens.shape[1], 3, device=self.device, dtype=self.dtype),
            return_dict=False,
        )[0]
        return unpack(output.float(), height, width)


def pack(latents: Tensor) -> Tensor:
    """[B, c, 2h, 2w] to tokens [B, h w, 4 c]: each holds a square of 2 x 2 latents, channels outermost."""
    batch, channels, height, width = latents.shape
    squares = latents.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(batch, height * width // 4, 4 * channels)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`: [B, h w, 4 c] to [B, c, 2h, 2w]."""
    batch, _, channels = tokens.shape
    squares = tokens.reshape(batch, height, width, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(batch, channels // 4, 2 * height, 2 * width)


def positions(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """[h w, 3]: zero, row and column of each token."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()
