"""What models in Stable Diffusion's layout share: a UNet, one CLIP text encoder, 4-channel latents.

`rfgs.priors.sd` makes a diffusion prior of it and `rfgs.priors.instaflow` a rectified flow.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rfgs.priors.adapter import Adapter
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition
from rfgs.priors.parts import Setup, check_width, load_network, read_json, whole_model
from rfgs.priors.text import TextPart, TextSide, load_clip

_NETWORK = "diffusers.models.unets.unet_2d_condition:UNet2DConditionModel"


class UNetModel(Adapter):
    """Loading, text and evaluation of the family; made by `load`."""

    def __init__(
        self, name: str, source: str, setup: Setup, network: Any, autoencoder: Autoencoder,
        scheduler: dict[str, Any],
    ) -> None:  # fmt: skip
        """`scheduler` is the content of its scheduler_config.json."""
        super().__init__(name, source, setup, network, autoencoder)
        self.scheduler_config = scheduler
        self.image_size = network.config["sample_size"] * autoencoder.factor
        self.text = TextSide(
            self._load_text,
            lambda clip, prompts: Condition(clip.encoder(clip.ids(prompts))[0]),
            device=self.device,
            dtype=self.dtype,
        )

    @classmethod
    def load(cls, source: str, *, name: str, setup: Setup) -> Any:
        """From the folder `source`; the text encoder follows when a prompt needs it."""
        with whole_model(name, "Stable Diffusion"):
            scheduler = read_json(source, "scheduler/scheduler_config.json")
            config = read_json(source, "unet/config.json")
            width = config.get("cross_attention_dim")
            # There may be one for each block.
            width = width if isinstance(width, int) else None
            check_width(source, ("text_encoder",), "hidden_size", width, "unet")
            check_width(source, ("vae",), "latent_channels", config.get("in_channels"), "unet")
            autoencoder = Autoencoder.load(source, device=setup.home, unread=setup.unread is not None)
            network = load_network(_NETWORK, source, "unet", setup)
        return cls(name, source, setup, network, autoencoder, scheduler)

    def _load_text(self) -> TextPart:
        with whole_model(self.name, "Stable Diffusion"):
            return load_clip(self.source, "", self.setup)

    def _evaluate(self, x_t: Tensor, label: Tensor, condition: Condition) -> Tensor:
        """The network's own output at its own time label [B], float32."""
        output = self._network(
            sample=x_t.to(self.dtype),
            timestep=label.to(self.device),
            encoder_hidden_states=condition.tokens.to(self.dtype),
            return_dict=False,
        )
        return output[0].float()
