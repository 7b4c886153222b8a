"""The real models' architectures, as their configuration files on the hub give them, to be built without weights.

`build("sd3", "network")` on the meta device costs a second and no memory; `rfgs.models.memory` keeps what was measured on them,
and tests measure it again.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

Part = Literal["network", "autoencoder", "clip", "clip_2", "t5", "qwen"]
Kind = Literal["sd3", "sd", "flux", "flux2", "z-image"]

_SD3 = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "out_channels": 16,
    "pos_embed_max_size": 192,
}
_UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "sd3": _SD3,
    "sd35-medium": _SD3
    | {"qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13)), "pos_embed_max_size": 384},
    "sd35-large": _SD3
    | {
        "qk_norm": "rms_norm",
        "num_layers": 38,
        "num_attention_heads": 38,
        "caption_projection_dim": 2432,
    },
    "sd15": _UNET,
    "instaflow": _UNET,
    "sd21": _UNET
    | {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "flux-dev": {"guidance_embeds": True},  # All else are the class's own defaults.
    "flux-schnell": {"guidance_embeds": False},
    "flux2-klein": {
        "num_layers": 5,
        "num_single_layers": 20,
        "num_attention_heads": 24,
        "joint_attention_dim": 7680,
        "guidance_embeds": False,
    },
    "z-image": {},  # All are the class's own defaults.
}
"""Arguments of the networks' classes (`_make`)."""

_KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
_KL16 = _KL | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
_T5 = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_QWEN3_4B = {
    "vocab_size": 151_936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}


def family(name: str) -> Kind:
    """Which classes a backend is made of (InstaFlow's are Stable Diffusion's)."""
    begins: dict[str, Kind] = {"sd3": "sd3", "flux-": "flux", "flux2-": "flux2", "z-image": "z-image"}
    return next((kind for begin, kind in begins.items() if name.startswith(begin)), "sd")


def parts(name: str) -> list[Part]:
    """The parts that the backend `name` has."""
    own: dict[Kind, list[Part]] = {
        "sd3": ["clip", "clip_2", "t5"],
        "flux": ["clip", "t5"],
        "sd": ["clip"],
        "flux2": ["qwen"],
        "z-image": ["qwen"],
    }
    return ["network", "autoencoder", *own[family(name)]]


def build(
    name: str, part: Part, *, device: str = "meta", dtype: torch.dtype = torch.float32, **changes: Any
) -> torch.nn.Module:
    """A part of the backend `name` without its weights, in evaluation mode, frozen.

    `changes` are other arguments for a network or an autoencoder, to have one of the same kind in small.
    """
    with torch.device(device):
        module = _make(name, part, changes)
    # Not diffusers' own `to`, which warns of weights that are none.
    return torch.nn.Module.to(module, dtype).eval().requires_grad_(False)


def _make(name: str, part: Part, changes: dict[str, Any]) -> torch.nn.Module:
    kind = family(name)
    if part == "network":
        import diffusers

        network = {
            "sd3": "SD3Transformer2DModel",
            "flux": "FluxTransformer2DModel",
            "sd": "UNet2DConditionModel",
            "flux2": "Flux2Transformer2DModel",
            "z-image": "ZImageTransformer2DModel",
        }
        return getattr(diffusers, network[kind])(**NETWORKS[name] | changes)
    if part == "autoencoder":
        from diffusers import AutoencoderKL, AutoencoderKLFlux2

        if kind == "flux2":
            return AutoencoderKLFlux2(**changes)
        return AutoencoderKL(**(_KL if kind == "sd" else _KL16) | changes)
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        Qwen3Config,
        Qwen3Model,
        T5Config,
        T5EncoderModel,
    )

    if part == "qwen":
        return Qwen3Model(Qwen3Config(**_QWEN3_4B))
    if part == "t5":
        return T5EncoderModel(T5Config(**_T5))
    if part == "clip_2":
        return CLIPTextModelWithProjection(CLIPTextConfig(**_CLIP_G, projection_dim=1280))
    if kind == "sd3":
        return CLIPTextModelWithProjection(CLIPTextConfig(**_CLIP_L, projection_dim=768))
    return CLIPTextModel(CLIPTextConfig(**(_CLIP_H if name == "sd21" else _CLIP_L)))
