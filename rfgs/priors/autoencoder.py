"""The autoencoder between images and latents, with each model's own scale and shift."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.errors import UserError
from rfgs.models.single_file import SingleFile
from rfgs.priors.parts import load_module, read_json


class Autoencoder:
    """diffusers' `AutoencoderKL` or `AutoencoderTiny`; latents are (encoder's mode - shift_factor) * scaling_factor.

    It is float32 whatever the network's precision, since the gradient of every view goes through the encoder, unless
    `to` says otherwise.
    """

    def __init__(self, module: Any, *, grain: int = 1) -> None:
        """`grain`: latents that a network takes as one token, so that image sizes have to be multiples of it."""
        self.module = module
        config = module.config
        blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
        self.factor = 2 ** (len(blocks) - 1)
        """Pixels per latent."""
        self._grain = grain * self.factor
        self._scale = config["scaling_factor"]
        # Configurations of Stable Diffusion 1 and 2 have none.
        self._shift = config.get("shift_factor") or 0.0
        self.linear = _fold(module, self.factor) if not any(config.get("num_encoder_blocks") or [1]) else None
        """Kernel [c, 3, 8, 8] and bias [c] of the one convolution that the encoder of our own small models amounts to."""
        self._slice_views = False

    @classmethod
    def load(
        cls, source: str, *, device: torch.device, grain: int = 1, file: SingleFile | None = None
    ) -> Autoencoder:
        """From the folder `source`, or the single `file` if it holds one."""
        if read_json(source, "vae/config.json").get("_class_name") == "AutoencoderTiny":
            from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny as Kind
        else:
            from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as Kind
        module = load_module(Kind, source, "vae", device=device, dtype=torch.float32, file=file)
        return cls(module, grain=grain)

    @property
    def slice_views(self) -> bool:
        """Encode view by view, and recompute each block of the encoder on the way back.

        Four views of 512 pixels then take 2.6 GB instead of 12.3 (`rfgs.models.memory`), for a third more time in the encoder.
        """
        return self._slice_views

    @slice_views.setter
    def slice_views(self, on: bool) -> None:
        self._slice_views = on
        if on:
            self.module.enable_gradient_checkpointing()
        else:
            self.module.disable_gradient_checkpointing()

    def to(self, dtype: torch.dtype) -> None:
        """Work in another precision: half takes half the memory, at the price of a coarser gradient."""
        torch.nn.Module.to(self.module, dtype)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, c, H/8, W/8]: the posterior's mode, shifted and scaled.

        Raises:
            UserError: sizes that leave a rest.
        """
        height, width = images.shape[-2:]
        if height % self._grain or width % self._grain:
            raise UserError(
                f"images of {width}x{height} pixels: this model takes multiples of {self._grain} pixels; "
                "change --resolution"
            )
        return torch.cat(
            [self._encode(view) for view in images.split(1 if self._slice_views else len(images))]
        )

    def _encode(self, images: Tensor) -> Tensor:
        if self.linear:
            latents = F.conv2d(images.clamp(0, 1), *self.linear, stride=self.factor)
            return (latents - self._shift) * self._scale
        output = self.module.encode((2 * images.clamp(0, 1) - 1).to(self.module.dtype))
        # The tiny autoencoder has no posterior.
        latents = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latents
        return (latents.float() - self._shift) * self._scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, c, h, w] to images [B, 3, 8h, 8w] in [0, 1]; one by one, so that memory does not grow with B."""
        latents = latents.float() / self._scale + self._shift
        latents = latents.to(self.module.dtype)
        images = torch.cat([self.module.decode(one).sample for one in latents.split(1)])
        return (images.float() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def _fold(module: Any, size: int) -> tuple[Tensor, Tensor] | None:
    """Kernel [c, 3, size, size] and bias [c] of the one convolution that an encoder of bare convolutions amounts to.

    None if a latent sees pixels outside its own patch. Read off from what the encoder makes of single pixels.
    """
    if module.device.type == "meta":
        return None  # There are no weights to read it off from.
    count = 3 * size * size
    pixels = torch.zeros(count + 1, 3, 3 * size, 3 * size, device=next(module.parameters()).device)
    patch = pixels[1:, :, size : 2 * size, size : 2 * size]
    patch.copy_(torch.eye(count).reshape(count, 3, size, size))
    latents = module.encode(2 * pixels - 1).latents
    bias, response = latents[0, :, 1, 1], latents[1:] - latents[:1]
    kernel = response[:, :, 1, 1].mT.reshape(-1, 3, size, size).clone()
    response[:, :, 1, 1] = 0
    constant = (latents[0] - bias[:, None, None]).abs().max()
    return None if max(response.abs().max(), constant) > 1e-6 else (kernel, bias.clone())
