"""Training of `tiny-sd3`: a small `SD3Transformer2DModel` and its two text encoders, on latents of the tiny world.

Rectified flow with the house's convention: x_t = (1 - t) x + t e, the network learns v = e - x
(Esser et al. 2024, "Scaling Rectified Flow Transformers", equation 2 with sigma = t).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from rfgs.tinyworld.text import MAX_TOKENS, TEXT_WIDTH, encode_text, new_text_encoder


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
        self.transformer = new_transformer()
        self.text_encoder = new_text_encoder(tokenizer)
        self.text_encoder_2 = new_text_encoder(tokenizer)

    def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """Velocity [B, 16, 16, 16] at x_t of the same shape, noise fraction t [B] in [0, 1], ids [B, MAX_TOKENS]."""
        tokens, pooled = encode_text([self.text_encoder, self.text_encoder_2], ids)
        return self.transformer(x_t, tokens, pooled, t * 1000, return_dict=False)[0]


@dataclass
class Latents:
    """Training data, already shifted and scaled: latents of a picture over grey g are objects + g backdrops (the encoder
    is linear), both [N, 16, 16, 16]; ids [N, 24] with and without view words."""

    objects: Tensor
    backdrops: Tensor
    ids: Tensor
    ids_without_view: Tensor
    empty: Tensor  # [24], the ids of the empty prompt

    def __len__(self) -> int:
        return len(self.objects)

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random latents [size, 16, 16, 16] over any grey and ids [size, 24]; 10 % lose their caption, 10 % the view words."""
        pick = torch.randint(len(self), (size,), generator=generator)
        chance = torch.rand(size, generator=generator)
        ids = torch.where((chance < 0.2)[:, None], self.ids_without_view[pick], self.ids[pick])
        ids = torch.where((chance < 0.1)[:, None], self.empty, ids)
        return self.over_grey(pick, torch.rand(size, generator=generator)), ids

    def over_grey(self, pick: Tensor, grey: Tensor) -> Tensor:
        """Latents [B, 16, 16, 16] of the pictures `pick` [B] over backgrounds `grey` [B] in [0, 1]."""
        return self.objects[pick].float() + grey[:, None, None, None] * self.backdrops[pick].float()


def draw_times(size: int, generator: torch.Generator) -> Tensor:
    """Noise fractions [size] in (0, 1): half logit-normal as in SD3, half uniform, since distillation visits every level."""
    normal = torch.sigmoid(torch.randn(size, generator=generator))
    uniform = torch.rand(size, generator=generator)
    return torch.where(torch.rand(size, generator=generator) < 0.5, normal, uniform)


def make_optimisers(model: TinySD3, rate: float) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the transformer's blocks, AdamW on everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        in_block = "transformer_blocks" in name and parameter.ndim == 2 and "norm" not in name
        (matrices if in_block else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=2 * rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def flow_loss_by_level(model: nn.Module, data: Latents, levels: Tensor, count: int, seed: int) -> list[float]:
    """Mean squared velocity error at each noise fraction of `levels`, on `count` fixed samples; no gradient."""
    generator = torch.Generator().manual_seed(seed)
    pick = torch.arange(min(count, len(data)))
    x, ids = data.over_grey(pick, torch.rand(len(pick), generator=generator)), data.ids[pick]
    e = torch.randn(x.shape, generator=generator)
    losses = []
    with torch.no_grad():
        for level in levels.tolist():
            v = model((1 - level) * x + level * e, torch.full((len(x),), level), ids)
            losses.append(float((v.float() - (e - x)).square().mean()))
    return losses


def train_prior(
    data: Latents,
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    *,
    seconds: float,
    seed: int,
    batch: int = 128,
    rate: float = 1e-3,
    compile: bool = False,
    save_every: int = 100,
) -> Iterator[dict]:
    """Train for `seconds` of wall time in all (over restarts); yields metrics at every checkpoint and resumes from it.

    The learning rate follows the time that has passed: warm-up over 100 steps, constant, then linear to 0 over the last
    half. Weights are averaged (EMA); the average is what ships.
    """
    torch.manual_seed(seed)
    model = TinySD3(tokenizer)
    average = TinySD3(tokenizer)
    average.load_state_dict(model.state_dict())
    optimisers = make_optimisers(model, rate)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        step, spent = state["step"], state["spent"]
    model.transformer.set_attn_processor(WrittenOutAttention())
    if compile:
        model.transformer.compile()  # In place: names of weights stay.
    weights: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(average.parameters())
    rates = [group["lr"] for group in (o.param_groups[0] for o in make_optimisers(average, rate))]
    started, losses = time.time() - spent, []
    while True:
        progress = (time.time() - started) / seconds
        for optimiser, full_rate in zip(optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = full_rate * min(1.0, step / 100, max(0.0, (1 - progress) / 0.5))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        x, ids = data.batch(batch, generator)
        t = draw_times(batch, generator)
        e = torch.randn(x.shape, generator=generator)
        mix = t[:, None, None, None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            v = model((1 - mix) * x + mix * e, t, ids)
        loss = (v.float() - (e - x)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(0.998, (1 + step) / (10 + step))
            torch._foreach_lerp_(averaged, weights, 1 - decay)
        step += 1
        losses.append(loss.item())
        if step % save_every == 0 or progress >= 1:
            spent = time.time() - started
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                "step": step,
                "spent": spent,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            yield {
                "step": step,
                "samples": step * batch,
                "seconds": spent,
                "loss": sum(losses) / len(losses),
                "rate": batch * len(losses) / max(spent, 1),
            }
            losses = []
        if progress >= 1:
            return


def load_average(checkpoint: Path, tokenizer: CLIPTokenizer) -> TinySD3:
    """The averaged model in `checkpoint`, for evaluation and export."""
    model = TinySD3(tokenizer)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
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
