"""Stable Diffusion 3 and 3.5, and every model in their layout (the embedded `tiny-sd3` is one).

The parts are loaded one by one from diffusers' folder layout, since importing the whole pipeline class costs seconds;
what they compute is the pipeline's own (tests compare the two). SD3 is the house's convention already: its sigma is our
t, its velocity is e - x. Latents are `(posterior - shift_factor) * scaling_factor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rfgs.models.about import INDEX, about
from rfgs.priors.adapter import LARGEST, FlowAdapter, load_scheduler
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition
from rfgs.priors.parts import Setup, check_width, load_network, read_json, whole_model
from rfgs.priors.text import TextPart, load_clip, load_t5

_NETWORK = "diffusers.models.transformers.transformer_sd3:SD3Transformer2DModel"


class SD3Prior(FlowAdapter):
    """A `Prior` of the family; made by `load`."""

    def __init__(
        self,
        name: str,
        source: str,
        setup: Setup,
        network: Any,
        autoencoder: Autoencoder,
        scheduler: dict[str, Any],
        *,
        t5: bool,
    ) -> None:
        """`t5`: whether prompts are read by it too, as by the two CLIPs."""
        super().__init__(name, source, setup, network, autoencoder, scheduler)
        self.image_size = min(network.config["sample_size"] * autoencoder.factor, LARGEST)
        # Where there is no T5, the pipeline puts this many zero tokens in its place (256 unless told otherwise).
        tokens = about(source).max_sequence_length
        self._t5_tokens = 256 if tokens is None else tokens
        self._t5 = t5
        self.text = self._text_side("sd3", str(self._t5_tokens), kept=t5)

    @classmethod
    def load(cls, source: str, *, name: str, setup: Setup) -> SD3Prior:
        """From the folder `source`; the text encoders follow when a prompt needs them."""
        with whole_model(name, "SD3"):
            t5 = setup.t5 != "drop" and _has_t5(source)
            scheduler = load_scheduler(source)
            config, clips = read_json(source, "transformer/config.json"), ("text_encoder", "text_encoder_2")
            check_width(source, clips, "projection_dim", config.get("pooled_projection_dim"), "transformer")
            if t5:
                joint = config.get("joint_attention_dim")
                check_width(source, ("text_encoder_3",), "d_model", joint, "transformer")
            check_width(source, ("vae",), "latent_channels", config.get("in_channels"), "transformer")
            network = load_network(_NETWORK, source, "transformer", setup)
            grain = network.config["patch_size"]
            autoencoder = Autoencoder.load(
                source, device=setup.home, grain=grain, file=setup.file, unread=setup.unread is not None
            )
        return cls(name, source, setup, network, autoencoder, scheduler, t5=t5)

    def _load_text(self) -> list[TextPart]:
        with whole_model(self.name, "SD3"):
            clips = [load_clip(self.source, suffix, self.setup, projection=True) for suffix in ("", "_2")]
            return [*clips, load_t5(self.source, "_3", self.setup)] if self._t5 else clips

    def _embed(self, parts: list[TextPart], prompts: Sequence[str]) -> Condition:
        """Tokens [B, L + T, D] (both CLIPs side by side, then T5 or its zeros) and pooled [B, P]."""
        length = parts[0].tokenizer.model_max_length
        outputs = [part.encoder(part.ids(prompts, length), output_hidden_states=True) for part in parts[:2]]
        clips = torch.cat([output.hidden_states[-2].to(self.device) for output in outputs], dim=-1)
        pooled = torch.cat([output.text_embeds.to(self.device) for output in outputs], dim=-1)
        width = self._network.config["joint_attention_dim"]
        if self._t5:
            t5 = parts[2].encoder(parts[2].ids(prompts, self._t5_tokens))[0].to(clips)
        else:
            t5 = clips.new_zeros(len(prompts), self._t5_tokens, width)
        return Condition(torch.cat([pad(clips, (0, width - clips.shape[-1])), t5], dim=1), pooled)

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The transformer's output; its time label is 1000 t."""
        output = self._network(
            hidden_states=x_t.to(self.dtype),
            encoder_hidden_states=condition.tokens,
            pooled_projections=condition.pooled,
            timestep=1000 * t.to(self.device),
            return_dict=False,
        )
        return output[0].float()

    def _times(self, steps: int, side: int) -> Tensor:
        scheduler = self._scheduler()
        scheduler.set_timesteps(steps)
        return scheduler.sigmas


def _has_t5(source: str) -> bool:
    """Whether the model has its third text encoder; a folder without it is a common way to save memory."""
    listed = read_json(source, INDEX).get("text_encoder_3") or [None]
    return listed[0] is not None and (Path(source) / "text_encoder_3").is_dir()
