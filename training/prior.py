"""Training of `tiny-sd3`: a small `SD3Transformer2DModel` and its two text encoders, on latents of the tiny world.

Rectified flow with the house's convention: x_t = (1 - t) x + t e, the network learns v = e - x
(Esser et al. 2024, "Scaling Rectified Flow Transformers", equation 2 with sigma = t).
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from training.draws import Draw
from training.fitting import autocast
from training.latents import Latents
from training.text import MAX_TOKENS, TEXT_WIDTH, encode_text, new_text_encoder, take_words


def new_transformer() -> SD3Transformer2DModel:
    """An untrained SD3 transformer of 192 channels and 6 blocks for latents [B, 16, 16, 16] (64 image tokens)."""
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=6,
        caption_projection_dim=192,
        joint_attention_dim=2 * TEXT_WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=16,
        qk_norm="rms_norm",  # As in SD3.5: large learning rates stay stable.
    )


class WrittenOutAttention:
    """SD3's joint attention in three plain operations, for training on a CPU.

    PyTorch's fused kernel takes five times as long on the way back there (bfloat16, 84 tokens, 6 heads of 32 channels).
    """

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> tuple[Tensor, Tensor]:
        """Picture tokens [B, N, D] and text tokens [B, L, D] attend to all of both."""

        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        x, text = hidden_states, encoder_hidden_states
        q = torch.cat([attn.norm_q(heads(attn.to_q(x))), attn.norm_added_q(heads(attn.add_q_proj(text)))], 2)
        k = torch.cat([attn.norm_k(heads(attn.to_k(x))), attn.norm_added_k(heads(attn.add_k_proj(text)))], 2)
        v = torch.cat([heads(attn.to_v(x)), heads(attn.add_v_proj(text))], 2)
        weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)
        out = (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        out, text_out = out[:, : x.shape[1]], out[:, x.shape[1] :]
        if not attn.context_pre_only:
            text_out = attn.to_add_out(text_out)
        return attn.to_out[0](out), text_out


class TinySD3(nn.Module):
    """The transformer with its two text encoders, trained together: token ids in, velocity out."""

    def __init__(self, tokenizer: CLIPTokenizer):
        super().__init__()
        self._tokenizer = tokenizer
        self.transformer = new_transformer()
        self.text_encoder = new_text_encoder(tokenizer)
        self.text_encoder_2 = new_text_encoder(tokenizer)

    def start_from(self, folder: Path) -> None:
        """Take the weights of a model that was exported to `folder`; words that it did not know keep those they have."""
        self.transformer.load_state_dict(
            SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer").state_dict()
        )
        for part in ("", "_2"):
            take_words(getattr(self, f"text_encoder{part}"), self._tokenizer, folder, part)

    def prepare(self, compile: bool) -> None:
        """Make training fast."""
        if next(self.parameters()).device.type == "cpu":
            self.transformer.set_attn_processor(WrittenOutAttention())
        if compile:
            self.transformer.compile()  # In place: names of weights stay.

    def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """Velocity [B, 16, 16, 16] at x_t of the same shape, noise fraction t [B] in [0, 1], ids [B, MAX_TOKENS]."""
        tokens, pooled = encode_text([self.text_encoder, self.text_encoder_2], ids)
        return self.transformer(x_t, tokens, pooled, t * 1000, return_dict=False)[0]


def flow_loss_by_level(model: nn.Module, data: Latents, levels: Tensor, count: int, seed: int) -> list[float]:
    """Mean squared velocity error at each noise fraction of `levels`, on `count` fixed samples; no gradient."""
    generator = torch.Generator().manual_seed(seed)
    pick = torch.arange(min(count, len(data)))
    drawn = data.draws.plain(pick, torch.rand(len(pick), generator=generator))
    x = data.batch(drawn).x
    e = torch.randn(x.shape, generator=generator)
    losses = []
    with torch.no_grad():
        for level in levels.tolist():
            v = model((1 - level) * x + level * e, torch.full((len(x),), level), drawn.ids)
            losses.append(float((v.float() - (e - x)).square().mean()))
    return losses


@torch.no_grad()
def flow_targets(data: Latents, drawn: Draw, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """x_t and the velocity to learn, [B, 16, 16, 16], of one draw: e - x, or where it can be had, its exact mean given x_t."""
    batch = data.batch(drawn)
    e = torch.randn(batch.x.shape, generator=noise, device=data.device)
    mix = drawn.t.to(data.device)[:, None, None, None]
    x_t, target = (1 - mix) * batch.x + mix * e, e - batch.x
    if len(drawn.rows):
        rows = drawn.rows.to(data.device)
        # v = (x_t - E[x | x_t]) / t
        x0 = data.exact_x0(drawn, batch, x_t[rows], mix[rows, 0, 0, 0])
        target[rows] = (x_t[rows] - x0) / mix[rows]
    return x_t, target


def flow_loss(model: nn.Module, data: Latents, drawn: Draw, noise: torch.Generator) -> Tensor:
    """Mean squared velocity error of one draw, with gradients."""
    x_t, target = flow_targets(data, drawn, noise)
    with autocast(data.device):
        v = model(x_t, drawn.t.to(data.device), drawn.ids.to(data.device))
    return (v.float() - target).square().mean()


def load_average(checkpoint: Path, tokenizer: CLIPTokenizer) -> TinySD3:
    """The averaged model in `checkpoint`, for evaluation and export."""
    model = TinySD3(tokenizer)
    model.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["average"])
    return model.eval().requires_grad_(False)


@torch.no_grad()
def sample(
    model: TinySD3, ids: Tensor, empty: Tensor, *, steps: int, guidance_scale: float, seed: int
) -> Tensor:
    """Latents [B, 16, 16, 16] by Euler steps from noise; ids [B, 24]; classifier-free guidance in diffusers' convention."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(ids), 16, 16, 16, generator=generator)
    both = torch.cat([ids, empty.expand(len(ids), MAX_TOKENS)])
    times = torch.linspace(1, 0, steps + 1)
    for t, t_next in zip(times[:-1], times[1:], strict=True):
        v_text, v_null = model(x.repeat(2, 1, 1, 1), t.expand(2 * len(ids)), both).chunk(2)
        x = x + (t_next - t) * (v_null + guidance_scale * (v_text - v_null))
    return x
