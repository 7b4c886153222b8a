"""The autoencoder between images and latents, with each model's own scale and shift."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.errors import UserError
from rfgs.models.single_file import SingleFile
from rfgs.priors.parts import load_module, read_json


class Autoencoder:
    """diffusers' `AutoencoderKL` or `AutoencoderTiny`; latents are (encoder's mode - shift_factor) * scaling_factor.

    Of FLUX.2's, `AutoencoderKLFlux2`, squares of 2 x 2 latents are made one of four times the channels, as its network takes
    them, and each channel is shifted and scaled by the statistics that the model brings.

    It is float32 whatever the network's precision, since the gradient of every view goes through the encoder, unless
    `to` says otherwise.
    """

    def __init__(self, module: Any, *, grain: int = 1, read: Callable[[], Any] | None = None) -> None:
        """
        Args:
            module: diffusers'. With `read`, which gives that once it is needed, a `PlainEncoder`.
            grain: latents that a network takes as one token, so that image sizes have to be multiples of it.
        """
        self._module, self._read = module, read
        config = module.config
        blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
        norm = getattr(module, "bn", None)
        self._square = 1 if norm is None else config["patch_size"][0]
        self.factor = 2 ** (len(blocks) - 1) * self._square
        """Pixels per latent."""
        self._grain = grain * self.factor
        if norm is None:
            # Configurations of Stable Diffusion 1 and 2 have no shift.
            # Numbers and no tensors of the CPU, which a GPU would wait for in each step.
            self._shift: Tensor | float = config.get("shift_factor") or 0.0
            self._scale: Tensor | float = config["scaling_factor"]
        else:
            # Copies: half precision and offloading are for weights.
            variance = norm.running_var + config["batch_norm_eps"]
            self._shift, self._scale = (
                statistic[:, None, None].float()
                for statistic in (norm.running_mean.clone(), variance.rsqrt())
            )
        self.linear = _fold(module, self.factor) if not any(config.get("num_encoder_blocks") or [1]) else None
        """Kernel [c, 3, 8, 8] and bias [c] of the one convolution that the encoder of our own small models amounts to."""
        self._slice_views = False

    @classmethod
    def load(
        cls,
        source: str,
        *,
        device: torch.device,
        grain: int = 1,
        file: SingleFile | None = None,
        unread: bool = False,
    ) -> Autoencoder:
        """From the folder `source`, or the single `file` if it holds one.

        `unread`: whether diffusers' module may be left unread until it is needed, which is to decode where the encoder is plain.
        """
        plain = PlainEncoder.load(source) if unread else None
        if plain is not None:
            return cls(plain, grain=grain, read=partial(_load, source, device, file))
        return cls(_load(source, device, file), grain=grain)

    @property
    def module(self) -> Any:
        """diffusers' module, read now if it was not."""
        if self._read is not None:
            self._module, self._read = self._read(), None
        return self._module

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
        """Images [B, 3, H, W] in [0, 1] to latents [B, c, H/factor, W/factor]: the posterior's mode, shifted and scaled.

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
            kernel, bias = self.linear
            patches = _patches(images.clamp(0, 1), self.factor)
            return self._normalized(F.linear(patches, kernel.flatten(1), bias).permute(0, 3, 1, 2))
        output = self.module.encode((2 * images.clamp(0, 1) - 1).to(self.module.dtype))
        # The tiny autoencoder has no posterior.
        latents = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latents
        return self._normalized(F.pixel_unshuffle(latents.float(), self._square))

    def _normalized(self, latents: Tensor) -> Tensor:
        return (latents - _as(self._shift, latents)) * _as(self._scale, latents)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, c, h, w] to images [B, 3, factor h, factor w] in [0, 1]; one by one, to save memory."""
        latents = latents.float()
        latents = latents / _as(self._scale, latents) + _as(self._shift, latents)
        latents = F.pixel_shuffle(latents, self._square).to(self.module.dtype)
        images = torch.cat([self.module.decode(one).sample for one in latents.split(1)])
        return (images.float() / 2 + 0.5).clamp(0, 1)


def _load(source: str, device: torch.device, file: SingleFile | None) -> Any:
    """diffusers' module."""
    name = read_json(source, "vae/config.json").get("_class_name")
    if name == "AutoencoderTiny":
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny as Kind
    elif name == "AutoencoderKLFlux2":
        from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2 as Kind
    else:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as Kind
    return load_module(Kind, source, "vae", device=device, dtype=torch.float32, file=file)


class PlainEncoder:
    """The encoder of an `AutoencoderTiny` without blocks, which is a row of convolutions, without diffusers (tests compare)."""

    device = torch.device("cpu")

    def __init__(self, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """`weights`: those of the encoder by their names there, such as "0.bias"."""
        self.config = config
        count = len(config["num_encoder_blocks"])
        # All but the first and the last halve the image, and have no bias.
        self._layers = [
            (weights[f"{number}.weight"], None if 0 < number < count else weights[f"{number}.bias"])
            for number in range(count + 1)
        ]

    @classmethod
    def load(cls, source: str) -> PlainEncoder | None:
        """That of the model in a folder, if it has one."""
        config = read_json(source, "vae/config.json")
        file = Path(source) / "vae" / "diffusion_pytorch_model.safetensors"
        tiny = config.get("_class_name") == "AutoencoderTiny"
        if not tiny or any(config["num_encoder_blocks"]) or not file.is_file():
            return None
        from safetensors.torch import load_file

        found, at = load_file(file), "encoder.layers."
        return cls(config, {n.removeprefix(at): v.float() for n, v in found.items() if n.startswith(at)})

    def encode(self, images: Tensor) -> Any:
        """Images [B, 3, H, W] in [-1, 1] to an object whose `latents` are [B, c, h, w]."""
        x = images.add(1).div(2)
        for weight, bias in self._layers:
            x = F.conv2d(x, weight, bias, stride=2 if bias is None else 1, padding=1)
        return SimpleNamespace(latents=x)


def _as(statistic: Tensor | float, latents: Tensor) -> Tensor | float:
    return statistic.to(latents) if isinstance(statistic, Tensor) else statistic


def _patches(images: Tensor, size: int) -> Tensor:
    """Images [B, 3, H, W] as their patches [B, H/size, W/size, 3 size size], each in a kernel's order.

    Times a kernel they are a convolution by steps of its own size, whose way back takes torch three times as long.
    """
    rows_and_columns = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))
    return rows_and_columns.permute(0, 2, 4, 1, 3, 5).flatten(3)


@torch.no_grad()
def _fold(module: Any, size: int) -> tuple[Tensor, Tensor] | None:
    """Kernel [c, 3, size, size] and bias [c] of the one convolution that an encoder of bare convolutions amounts to.

    None if a latent sees pixels outside its own patch. Read off from what the encoder makes of single pixels.
    """
    if module.device.type == "meta":
        return None  # There are no weights to read it off from.
    count = 3 * size * size
    pixels = torch.zeros(count + 1, 3, 3 * size, 3 * size, device=module.device)
    patch = pixels[1:, :, size : 2 * size, size : 2 * size]
    patch.copy_(torch.eye(count).reshape(count, 3, size, size))
    latents = module.encode(2 * pixels - 1).latents
    bias, response = latents[0, :, 1, 1], latents[1:] - latents[:1]
    kernel = response[:, :, 1, 1].mT.reshape(-1, 3, size, size).clone()
    response[:, :, 1, 1] = 0
    constant = (latents[0] - bias[:, None, None]).abs().max()
    return None if max(response.abs().max(), constant) > 1e-6 else (kernel, bias.clone())
