"""Priors of the real architectures with random weights: what they cost can be measured without a download.

Their answers mean nothing. Text encoders are left out, since no step of the loop has them: prompts get embeddings by chance.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from rfgs.measure.architectures import build, family
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition, Prior
from rfgs.priors.flux import FluxPrior
from rfgs.priors.instaflow import InstaFlowPrior
from rfgs.priors.klein import KleinPrior
from rfgs.priors.parts import Setup
from rfgs.priors.sd import StableDiffusionPrior
from rfgs.priors.sd3 import SD3Prior
from rfgs.priors.sending import send
from rfgs.priors.zimage import ZImagePrior

SPREAD = 0.02
"""Of the weights: what comes of them is finite in half precision."""
_SMALL: dict[str, dict[str, Any]] = {
    "sd3": {
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "caption_projection_dim": 32,
        "joint_attention_dim": 64,
        "pooled_projection_dim": 32,
        "dual_attention_layers": (),
    },
    "flux": {
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "axes_dims_rope": (4, 6, 6),
        "joint_attention_dim": 64,
        "pooled_projection_dim": 32,
    },
    "flux2": {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "axes_dims_rope": (4, 4, 4, 4),
        "joint_attention_dim": 64,
    },
    "z-image": {
        "dim": 32,
        "n_layers": 1,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 64,
        "axes_dims": [4, 6, 6],
        "axes_lens": [1024, 64, 64],
    },
    "sd": {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 64,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    },
}
_SMALL_AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (4, 4, 8, 8),
    "norm_num_groups": 2,
    "layers_per_block": 1,
}
_SMALL_AUTOENCODER_2 = {"block_out_channels": (4, 4, 8, 8), "latent_channels": 4, "norm_num_groups": 2}
"""FLUX.2's."""
_SD_SCHEDULE = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


class RandomText:
    """In place of a model's text encoders: embeddings of the right shapes that depend on the prompt by chance alone."""

    def __init__(
        self, tokens: int, width: int, pooled: int | None, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._shape, self._pooled, self._device, self._dtype = (1, tokens, width), pooled, device, dtype
        self._known: dict[str, Condition] = {}

    def __call__(self, prompts: Sequence[str]) -> Condition:
        """B prompts; they are remembered, as the real ones are."""
        for prompt in prompts:
            if prompt not in self._known:
                generator = torch.Generator().manual_seed(zlib.crc32(prompt.encode()))
                shapes = [self._shape, *([(1, self._pooled)] if self._pooled else [])]
                drawn = [torch.randn(shape, generator=generator) for shape in shapes]
                self._known[prompt] = Condition(*(send(one, self._device, self._dtype) for one in drawn))
        return Condition.cat([self._known[prompt] for prompt in prompts])

    def release(self) -> None:
        """There is nothing to free."""


def random_prior(
    name: str, *, device: str | torch.device, dtype: torch.dtype = torch.float32, small: bool = False
) -> Prior:
    """A prior like the backend `name` (`rfgs.measure.architectures.NETWORKS`), whose weights are drawn on `device`.

    Args:
        dtype: of the network; the autoencoder is float32, as ever.
        small: a network and an autoencoder of the same kinds with some thousand weights, to try what measures them.
    """
    kind, device = family(name), torch.device(device)
    changes: dict[str, Any] = _SMALL[kind] if small else {}
    network = drawn(build(name, "network", **changes), device, dtype)
    narrow: dict[str, Any] = (
        (_SMALL_AUTOENCODER_2 if kind == "flux2" else _SMALL_AUTOENCODER) if small else {}
    )
    encoder = drawn(build(name, "autoencoder", **narrow), device, torch.float32)
    setup, source = Setup(device, dtype), f"/random/{name}"
    scheduler: dict[str, Any] = {"shift": 3.0, "use_dynamic_shifting": False}
    prior: Any
    pooled: int | None = None
    if kind == "sd":
        adapter = InstaFlowPrior if name.startswith("instaflow") else StableDiffusionPrior
        prior = adapter(name, source, setup, network, Autoencoder(encoder), _SD_SCHEDULE)
        tokens, width = 77, network.config.cross_attention_dim
    elif kind == "flux2":
        encoder.bn.running_var.fill_(1)  # By chance it would be negative.
        prior = KleinPrior(name, source, setup, network, Autoencoder(encoder), scheduler)
        tokens, width = prior._tokens, network.config.joint_attention_dim
    elif kind == "z-image":
        prior = ZImagePrior(name, source, setup, network, Autoencoder(encoder, grain=2), scheduler)
        tokens, width = prior._tokens, network.config.cap_feat_dim
    else:
        autoencoder = Autoencoder(encoder, grain=2)
        if kind == "sd3":
            prior = SD3Prior(name, source, setup, network, autoencoder, scheduler, t5=False)
            tokens = 333
        else:
            prior = FluxPrior(name, source, setup, network, autoencoder, scheduler)
            tokens = prior._t5_tokens
        width, pooled = network.config.joint_attention_dim, network.config.pooled_projection_dim
    prior.text = RandomText(tokens, width, pooled, device, dtype)
    return cast(Prior, prior)


@torch.no_grad()
def drawn(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """A module of the meta device with all that it holds drawn by chance on `device`: no byte more than the weights take."""
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                value = torch.empty(parameter.shape, device=device, dtype=dtype).normal_(0, SPREAD)
                owner._parameters[name] = nn.Parameter(value, requires_grad=False)
        for name, buffer in owner._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                owner._buffers[name] = torch.empty(buffer.shape, device=device, dtype=dtype).normal_(
                    0, SPREAD
                )
            elif buffer is not None:
                owner._buffers[name] = torch.zeros(buffer.shape, device=device, dtype=buffer.dtype)
    return module
