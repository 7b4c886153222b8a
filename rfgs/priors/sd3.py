"""Stable Diffusion 3 and 3.5, and every model in their layout (the embedded `tiny-sd3` is one).

The parts are loaded one by one from diffusers' folder layout, since importing the whole pipeline class costs seconds;
what they compute is the pipeline's own (tests compare the two). SD3 is the house's convention already: its sigma is our
t, its velocity is e - x. Latents are `(posterior - shift_factor) * scaling_factor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from rfgs.flow import classifier_free
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition, in_batches
from rfgs.priors.parts import about, load_module, read_json, vocabulary, whole_model
from rfgs.priors.text import TextPart, TextSide, load_text, text_key

_LARGEST = 512
"""Pixels: SD3's native 1024 costs four times the tokens of 512, and every recipe for distillation renders 512 at most."""


class SD3Prior:
    """A `Prior` of the family; made by `load`."""

    kind: Literal["flow", "diffusion"] = "flow"
    max_batch: int | None = None
    """Samples in one evaluation of the network; more are done one batch after the other. None: no limit."""

    def __init__(
        self, name: str, source: str, network: Any, autoencoder: Autoencoder, scheduler: Any, *, t5: bool
    ) -> None:
        self.name, self.source, self.network, self.autoencoder = name, source, network, autoencoder
        self.device, self.dtype = network.device, network.dtype
        self._scheduler = scheduler
        self.time_shift = float(scheduler.config.shift)
        self.image_size = min(network.config.sample_size * autoencoder.factor, _LARGEST)
        said = about(source)
        self.vocabulary = vocabulary(said)
        # Where there is no T5, the pipeline puts this many zero tokens in its place (256 unless told otherwise).
        self._t5_tokens = said.get("max_sequence_length", 256)
        self._t5 = t5
        self.text = TextSide(
            self._load_text,
            self._embed,
            device=self.device,
            dtype=self.dtype,
            key=text_key(source, "sd3", str(self._t5_tokens)) if t5 else None,
        )

    @classmethod
    def load(
        cls, source: str, *, name: str, device: torch.device, dtype: torch.dtype, t5: bool = True
    ) -> SD3Prior:
        """Load from a folder or hub id `source`; the text encoders follow when a prompt needs them.

        Args:
            t5: False leaves T5 out, as a folder without it does; prompts are then read by the two CLIPs alone.
        """
        from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

        with whole_model(name, "SD3"):
            t5 = t5 and _has_t5(source)
            scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(source, subfolder="scheduler")
            network = load_module(SD3Transformer2DModel, source, "transformer", device=device, dtype=dtype)
            autoencoder = Autoencoder.load(source, device=device, grain=network.config.patch_size)
        return cls(name, source, network, autoencoder, scheduler, t5=t5)

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Tokens [B, L + T, D] (both CLIPs side by side, then T5 or its zeros) and pooled [B, P], as the pipeline does."""
        return self.text(prompts)

    def release_text(self) -> None:
        """Free the text encoders' memory; a new prompt loads them again for a moment."""
        self.text.release()

    def _load_text(self) -> list[TextPart]:
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        kinds: list[tuple[Any, Any, str]] = [
            (CLIPTextModelWithProjection, CLIPTokenizer, suffix) for suffix in ("", "_2")
        ]
        if self._t5:
            from transformers import T5EncoderModel, T5TokenizerFast

            kinds.append((T5EncoderModel, T5TokenizerFast, "_3"))
        with whole_model(self.name, "SD3"):
            return [
                load_text(encoder, tokenizer, self.source, suffix, device=self.device, dtype=self.dtype)
                for encoder, tokenizer, suffix in kinds
            ]

    def _embed(self, parts: list[TextPart], prompts: Sequence[str]) -> Condition:
        length = parts[0].tokenizer.model_max_length
        outputs = [part.encoder(part.ids(prompts, length), output_hidden_states=True) for part in parts[:2]]
        clips = torch.cat([output.hidden_states[-2].to(self.device) for output in outputs], dim=-1)
        pooled = torch.cat([output.text_embeds.to(self.device) for output in outputs], dim=-1)
        width = self.network.config.joint_attention_dim
        if self._t5:
            t5 = parts[2].encoder(parts[2].ids(prompts, self._t5_tokens))[0].to(clips)
        else:
            t5 = clips.new_zeros(len(prompts), self._t5_tokens, width)
        return Condition(torch.cat([pad(clips, (0, width - clips.shape[-1])), t5], dim=1), pooled)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, 16, H/8, W/8]; UserError for sizes that are no multiple of 16."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, 16, h, w] to images [B, 3, 8h, 8w] in [0, 1]."""
        return self.autoencoder.decode(latents)

    @torch.no_grad()
    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The transformer's output, float32; its time label is 1000 t."""
        return in_batches(self.predict, x_t, t, condition, self.max_batch)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """`velocity` with gradients, for a LoRA on `network`."""
        output = self.network(
            x_t.to(self.dtype),
            condition.tokens,
            condition.pooled,
            1000 * t.to(self.device),
            return_dict=False,
        )
        return output[0].float()

    @torch.no_grad()
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
        """Images [B, 3, size, size] in [0, 1] by the scheduler's Euler steps, `steps` of them."""
        side = (size or self.image_size) // self.autoencoder.factor
        shape = (len(condition), self.network.config.in_channels, side, side)
        x = torch.randn(shape, generator=generator).to(self.device)
        both = Condition.cat([condition, negative])
        self._scheduler.set_timesteps(steps, device=self.device)
        for time in self._scheduler.timesteps:
            t = (time / 1000).expand(2 * len(x))
            v_text, v_null = self.velocity(torch.cat([x, x]), t, both).chunk(2)
            v = classifier_free(v_text, v_null, guidance_scale)
            x = self._scheduler.step(v, time, x, return_dict=False)[0]
        return self.decode(x)


def _has_t5(source: str) -> bool:
    """Whether the model has its third text encoder; a folder without it is a common way to save memory."""
    listed = read_json(source, "model_index.json").get("text_encoder_3") or [None]
    folder = Path(source)
    return listed[0] is not None and (not folder.is_dir() or (folder / "text_encoder_3").is_dir())
