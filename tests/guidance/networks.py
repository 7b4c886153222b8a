"""diffusers' own networks, made small and random: a prior that can be adapted, for each family."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rfgs.priors.base import Condition


class NetworkPrior:
    """A flow ("sd3", a transformer) or a diffusion model ("unet"); texts are numbers, images are their own latents."""

    image_size, vocabulary = 8, None

    def __init__(self, family: str) -> None:
        self.name, self.family = family, family
        self.kind = "flow" if family == "sd3" else "diffusion"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = (_transformer() if family == "sd3" else _unet()).eval().requires_grad_(False)

    def embed(self, prompts: Sequence[str]) -> Condition:
        numbers = torch.tensor([float(len(text)) for text in prompts])
        waves = torch.sin(numbers[:, None] * torch.arange(1, 17))
        return Condition(waves[:, None], waves if self.family == "sd3" else None)

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(torch.cat([images, images[:, :1]], dim=1), 4)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=4)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        dtype = self.network.dtype
        x_t, condition = x_t.to(dtype), condition.to(x_t.device, dtype)
        if self.family == "sd3":
            output = self.network(x_t, condition.tokens, condition.pooled, 1000 * t, return_dict=False)
        else:
            output = self.network(x_t, 999 * t, condition.tokens, return_dict=False)
        return output[0].float()

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return (1 - t, t) if self.kind == "flow" else (torch.cos(1.5 * t), torch.sin(1.5 * t))

    def powers(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.alpha_sigma(t)
        return alpha.square(), sigma.square()


def _transformer():
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=8,
    )


def _unet():
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
