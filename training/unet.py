"""`tiny-sd` and `tiny-instaflow`: one UNet in Stable Diffusion's layout, as a diffusion model and as a rectified flow.

Both work on the latents of `tiny-sd3` and read prompts with a text encoder that began as one of its two. The network's own
conventions are those of the big siblings: Stable Diffusion 1.5 predicts the noise e of sqrt(a) x + sqrt(1 - a) e at one of
1000 steps, InstaFlow predicts u = x - e of (1 - t) x + t e at the label 1000 t (`rfgs.priors.instaflow`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from rfgs.guidance.ode import OdeConfig, sample_ode
from rfgs.priors import Prior
from training.draws import Draw
from training.fitting import autocast
from training.latents import Latents
from training.text import TEXT_WIDTH, new_text_encoder, same_words

SHAPE = (16, 16, 16)


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet for latents [B, 16, 16, 16]; it attends to text and to itself where they are 8x8."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=16,
        out_channels=16,
        layers_per_block=1,
        block_out_channels=(96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(3, 6),  # Heads, despite the name: 32 channels each.
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",  # Begins at the last step: pure noise is what it is given.
    )


class WrittenOutAttention:
    """Attention in three plain operations; see `training.prior.WrittenOutAttention`."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
    ) -> Tensor:
        """Tokens [B, N, C] attend to `encoder_hidden_states` [B, L, D], or to themselves."""

        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = heads(attn.to_q(hidden_states)), heads(attn.to_k(context)), heads(attn.to_v(context))
        weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)
        return attn.to_out[0]((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))


class TinyUNet(nn.Module):
    """The UNet with its text encoder, trained together: token ids in, the network's own prediction out."""

    def __init__(self, tokenizer: CLIPTokenizer):
        super().__init__()
        self._tokenizer = tokenizer
        self.unet = new_unet().to(memory_format=torch.channels_last)
        config = new_text_encoder(tokenizer).config
        # As Stable Diffusion 2 does: SD3 reads the states before the last layer, so that layer is left out.
        config.num_hidden_layers -= 1
        self.text_encoder = CLIPTextModel(config)

    def start_from(self, folder: Path) -> None:
        """Take the weights of a model in `folder`; of one without a UNet only its text encoder but for the last layer.

        Words that it did not know keep the weights that they have.
        """
        own = self.text_encoder.state_dict()
        if (folder / "unet").is_dir():
            self.unet.load_state_dict(_weights(UNet2DConditionModel, folder, "unet"))
            weights = _weights(CLIPTextModel, folder, "text_encoder")
        else:
            weights = _weights(CLIPTextModelWithProjection, folder, "text_encoder")
            weights = {name.removeprefix("text_model."): value for name, value in weights.items()}
            # The norm after the last layer was made for what comes out of that layer.
            weights = {name: own[name] if "final_layer_norm" in name else weights[name] for name in own}
        key = next(name for name in own if name.endswith("token_embedding.weight"))
        words = same_words(own[key], self._tokenizer, weights[key], folder / "tokenizer")
        self.text_encoder.load_state_dict({**weights, key: words})

    def prepare(self, compile: bool) -> None:
        """Make training fast. Nothing is compiled: torch 2.13 gives the attention of a UNet a gradient of 0 then."""
        if next(self.parameters()).device.type == "cpu":
            self.unet.set_attn_processor(WrittenOutAttention())

    def forward(self, x_t: Tensor, label: Tensor, ids: Tensor) -> Tensor:
        """Noise or velocity [B, 16, 16, 16] at x_t of the same shape, time label [B] in 0 to 1000, ids [B, MAX_TOKENS]."""
        tokens = self.text_encoder(ids)[0]
        return self.unet(x_t, label, tokens, return_dict=False)[0]


def _weights(kind: Any, folder: Path, part: str) -> dict[str, Tensor]:
    return kind.from_pretrained(folder, subfolder=part).float().state_dict()


def load_average(checkpoint: Path, tokenizer: CLIPTokenizer) -> TinyUNet:
    """The averaged model in `checkpoint`, for evaluation and export."""
    model = TinyUNet(tokenizer)
    model.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["average"])
    return model.eval().requires_grad_(False)


def _predict(model: nn.Module, x_t: Tensor, label: Tensor, ids: Tensor) -> Tensor:
    with autocast(x_t.device):
        x_t = x_t.contiguous(memory_format=torch.channels_last)
        return model(x_t, label.to(x_t.device), ids.to(x_t.device)).float()


def diffusion_loss(
    model: nn.Module, data: Latents, alpha_bars: Tensor, drawn: Draw, noise: torch.Generator
) -> Tensor:
    """Mean squared error of the predicted noise of one draw at uniform steps (Ho et al. 2020, equation 14)."""
    x = data.batch(drawn).x
    step = torch.randint(len(alpha_bars), (len(x),), generator=noise, device=data.device)
    e = torch.randn(x.shape, generator=noise, device=data.device)
    a = alpha_bars.to(data.device)[step][:, None, None, None]
    return (_predict(model, a.sqrt() * x + (1 - a).sqrt() * e, step, drawn.ids) - e).square().mean()


def rectified_loss(model: nn.Module, x: Tensor, e: Tensor, ids: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the predicted x - e on the straight line from x to e (Liu et al. 2023, equation 1).

    x and e [B, 16, 16, 16] are a picture and any noise, or, in a reflow, the noise that it was drawn from.
    """
    mix = t.to(x)[:, None, None, None]
    return (_predict(model, (1 - mix) * x + mix * e, 1000 * t, ids) - (x - e)).square().mean()


@dataclass
class Pairs:
    """Noise [N, 16, 16, 16], what a rectified flow makes of it [N, 16, 16, 16], and the captions' ids [N, 24]."""

    noise: Tensor
    made: Tensor
    ids: Tensor

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random pictures, their noise and ids, at uniform noise fractions [size]."""
        pick = torch.randint(len(self.made), (size,), generator=generator)
        t = torch.rand(size, generator=generator)
        return self.made[pick].float(), self.noise[pick].float(), self.ids[pick], t


def draw_pairs(
    teacher: Prior, data: Latents, count: int, seed: int, *, steps: int, guidance_scale: float
) -> Pairs:
    """`count` pairs of noise and what a flow makes of it by equal Euler steps, for captions of the data as training draws them.

    Args:
        teacher: a flow on the same latents, with the same words; where `data` is.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = data.draws.draw(count, 1, generator).ids
    e = torch.randn(count, *SHAPE, generator=generator).to(data.device)
    texts = data.draws.tokenizer.batch_decode(ids, skip_special_tokens=True)
    config = OdeConfig(steps=steps, guidance_scale=guidance_scale)
    made = []
    for some in range(0, count, 8):
        text = teacher.embed(texts[some : some + 8])
        null = teacher.embed([""] * len(text))
        made.append(list(sample_ode(teacher, e[some : some + 8], text, null, config))[-1].x)
    return Pairs(e.half().cpu(), torch.cat(made).half().cpu(), ids)
