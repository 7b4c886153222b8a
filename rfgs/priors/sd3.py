"""Stable Diffusion 3 and 3.5, and every model in their layout (the embedded `tiny-sd3` is one).

The parts are loaded one by one from diffusers' folder layout, since importing the whole pipeline class costs seconds;
what they compute is the pipeline's own (tests compare the two). SD3 is the house's convention already: its sigma is our
t, its velocity is e - x. Latents are `(posterior - shift_factor) * scaling_factor`
(`rfgs.priors.autoencoder`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition, classifier_free

_LARGEST = 512
"""Pixels: SD3's native 1024 costs four times the tokens of 512, and every recipe for distillation renders 512 at most."""


class SD3Prior:
    """A `Prior` of the family; made by `load`."""

    kind: Literal["flow", "diffusion"] = "flow"

    def __init__(
        self,
        name: str,
        parts: dict[str, Any],
        autoencoder: Autoencoder,
        about: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.name, self.autoencoder, self.device = name, autoencoder, device
        self._parts = parts
        self._transformer, self._scheduler = parts["transformer"], parts["scheduler"]
        self.network = self._transformer
        self.dtype = self._transformer.dtype
        self.image_size = min(self._transformer.config.sample_size * autoencoder.factor, _LARGEST)
        # Where there is no T5, the pipeline puts this many zero tokens in its place (256 unless told otherwise).
        self._t5_tokens = about.get("max_sequence_length", 256)
        words = about.get("vocabulary")
        self.vocabulary = None if words is None else frozenset(words)

    @classmethod
    def load(cls, source: str, *, name: str, device: torch.device, dtype: torch.dtype) -> SD3Prior:
        """Load from a folder or hub id `source`; the autoencoder stays float32, since distillation goes through it."""
        from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        def model(kind: Any, part: str, precision: torch.dtype) -> Any:
            loaded = kind.from_pretrained(source, subfolder=part, torch_dtype=precision)
            return loaded.to(device).eval().requires_grad_(False)

        try:
            parts = {
                "transformer": model(SD3Transformer2DModel, "transformer", dtype),
                "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(source, subfolder="scheduler"),
                "text_encoder": model(CLIPTextModelWithProjection, "text_encoder", dtype),
                "tokenizer": CLIPTokenizer.from_pretrained(source, subfolder="tokenizer"),
                "text_encoder_2": model(CLIPTextModelWithProjection, "text_encoder_2", dtype),
                "tokenizer_2": CLIPTokenizer.from_pretrained(source, subfolder="tokenizer_2"),
            }
            autoencoder = Autoencoder.load(
                source, device=device, grain=parts["transformer"].config.patch_size
            )
            if _has_t5(source):
                from transformers import T5EncoderModel, T5TokenizerFast

                parts["text_encoder_3"] = model(T5EncoderModel, "text_encoder_3", dtype)
                parts["tokenizer_3"] = T5TokenizerFast.from_pretrained(source, subfolder="tokenizer_3")
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{name}: not a whole SD3 model ({reason}); download it again") from error
        about = Path(source) / "rfgs.json"
        return cls(name, parts, autoencoder, json.loads(about.read_text()) if about.is_file() else {}, device)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Condition:
        """Tokens [B, L + T, D] (both CLIPs side by side, then T5 or its zeros) and pooled [B, P], as the pipeline does."""
        clips = [self._embed_clip(prompts, suffix) for suffix in ("", "_2")]
        tokens = torch.cat([hidden for hidden, _ in clips], dim=-1)
        width = self._transformer.config.joint_attention_dim
        tokens = torch.nn.functional.pad(tokens, (0, width - tokens.shape[-1]))
        t5 = self._embed_t5(prompts, width)
        return Condition(torch.cat([tokens, t5], dim=1), torch.cat([pooled for _, pooled in clips], dim=-1))

    def _embed_clip(self, prompts: Sequence[str], suffix: str) -> tuple[Tensor, Tensor]:
        tokenizer, encoder = self._parts[f"tokenizer{suffix}"], self._parts[f"text_encoder{suffix}"]
        length = self._parts["tokenizer"].model_max_length
        ids = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True).input_ids
        output = encoder(torch.tensor(ids, device=self.device), output_hidden_states=True)
        return output.hidden_states[-2].to(self.dtype), output.text_embeds.to(self.dtype)

    def _embed_t5(self, prompts: Sequence[str], width: int) -> Tensor:
        if "text_encoder_3" not in self._parts:
            return torch.zeros(len(prompts), self._t5_tokens, width, dtype=self.dtype, device=self.device)
        ids = self._parts["tokenizer_3"](
            list(prompts), padding="max_length", max_length=self._t5_tokens, truncation=True
        ).input_ids
        return self._parts["text_encoder_3"](torch.tensor(ids, device=self.device))[0].to(self.dtype)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1], multiples of 16, to latents [B, 16, H/8, W/8]."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, 16, h, w] to images [B, 3, 8h, 8w] in [0, 1]."""
        return self.autoencoder.decode(latents)

    @torch.no_grad()
    def velocity(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The transformer's output, float32; its time label is 1000 t."""
        return self.predict(x_t, t, condition)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """`velocity` with gradients, for a LoRA on `network`."""
        output = self._transformer(
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
        shape = (len(condition), self._transformer.config.in_channels, side, side)
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
    index = Path(source) / "model_index.json"
    if index.is_file():
        listed = json.loads(index.read_text(encoding="utf-8")).get("text_encoder_3") or [None]
        return listed[0] is not None and (index.parent / "text_encoder_3").is_dir()
    return True
