"""The flow-matching loss and sampling against models whose velocity is known in closed form; the network's shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from training import prior
from training.fitting import make_optimizers
from training.latents import Latents
from training.prior import TinySD3, flow_loss, flow_loss_by_level, load_average, sample
from training.text import MAX_TOKENS, TEXT_WIDTH, write_tokenizer

SHAPE = (16, 16, 16)
Constant = Callable[..., Latents]


class Exact(nn.Module):
    """The true velocity of data that is 0.5 everywhere: x_t = (1 - t) x + t e gives e - x = (x_t - x) / t."""

    sign = 1.0

    def __init__(self, tokenizer: CLIPTokenizer | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return self.sign * (x_t - 0.5) / t[:, None, None, None] + 0 * self.weight.sum()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(["red", "cube", "a"], tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of 16 channels in place of the real network."""

    def new_transformer() -> SD3Transformer2DModel:
        return SD3Transformer2DModel(
            sample_size=16,
            patch_size=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=2 * TEXT_WIDTH,
            pooled_projection_dim=2 * TEXT_WIDTH,
            pos_embed_max_size=4,
            qk_norm="rms_norm",
        )

    monkeypatch.setattr(prior, "new_transformer", new_transformer)


# Training


@pytest.mark.parametrize("exact", [1, 8])
@pytest.mark.parametrize("sign, expected", [(1.0, 0.0), (-1.0, 4 * 1.25)])
def test_the_target_is_noise_minus_data(
    sign: float, expected: float, exact: int, monkeypatch: pytest.MonkeyPatch, constant: Constant
) -> None:
    """The true velocity has no loss; turned round it has 4 E (e - x)^2 = 4 (1 + 0.5^2). Exact targets agree: x is known."""
    monkeypatch.setattr(Exact, "sign", sign)
    data, generator = constant(), torch.Generator().manual_seed(0)
    loss = flow_loss(Exact(), data, data.draws.draw(64, exact, generator), generator)
    assert loss.item() == pytest.approx(expected, abs=1e-4, rel=0.02)
    loss.backward()


def test_loss_by_level_is_that_of_a_known_error_at_each_level(constant: Constant) -> None:
    class Off(Exact):
        def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
            # "a red cube, front view", "a red cube, left side view", ...
            assert ids[:, 0].tolist() == [5, 6, 5, 6]
            return super().forward(x_t, t, ids) + t[:, None, None, None]

    levels = torch.tensor([0.1, 0.5, 0.9])
    assert flow_loss_by_level(Exact(), constant(), levels, 4, seed=0) == pytest.approx([0] * 3, abs=1e-6)
    assert flow_loss_by_level(Off(), constant(9), levels, 4, seed=0) == pytest.approx(
        [0.01, 0.25, 0.81], rel=1e-3
    )


def test_every_weight_has_one_optimizer_and_muon_has_the_matrices_of_the_blocks(
    tokenizer: CLIPTokenizer,
) -> None:
    model = TinySD3(tokenizer)
    muon, adam = make_optimizers(model, 1e-3)
    owned = Counter(id(p) for optimizer in (muon, adam) for g in optimizer.param_groups for p in g["params"])
    assert owned == Counter(id(p) for p in model.parameters())
    names = {id(p): name for name, p in model.named_parameters()}
    matrices = muon.param_groups[0]["params"]
    assert all(p.ndim == 2 and names[id(p)].startswith("transformer.transformer_blocks.") for p in matrices)
    assert any("attn.to_q.weight" in names[id(p)] for p in matrices)
    assert sum(p.numel() for p in matrices) > 0.4 * sum(p.numel() for p in model.transformer.parameters())


def test_the_average_is_what_is_loaded_frozen(tokenizer: CLIPTokenizer, tmp_path: Path, small: None) -> None:
    model, average = TinySD3(tokenizer), TinySD3(tokenizer)
    torch.save({"model": model.state_dict(), "average": average.state_dict()}, tmp_path / "prior.pt")
    loaded = load_average(tmp_path / "prior.pt", tokenizer)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert all(torch.equal(value, average.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("last", [False, True])
def test_attention_written_out_is_diffusers_own(last: bool) -> None:
    """The last block's text tokens go nowhere: it has no projection for them."""
    from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0

    torch.manual_seed(0)
    attention = Attention(
        query_dim=24,
        added_kv_proj_dim=24,
        dim_head=8,
        heads=3,
        out_dim=24,
        context_pre_only=last,
        bias=True,
        qk_norm="rms_norm",
        processor=JointAttnProcessor2_0(),
    )
    for name, weight in attention.named_parameters():
        nn.init.uniform_(weight, 0.5, 1.5) if "norm" in name else None
    picture, text = torch.randn(2, 10, 24), torch.randn(2, 5, 24)
    theirs = attention(picture, encoder_hidden_states=text)
    attention.set_processor(prior.WrittenOutAttention())
    for ours, expected in zip(attention(picture, encoder_hidden_states=text), theirs, strict=True):
        torch.testing.assert_close(ours, expected)


def test_the_network_has_the_sizes_it_is_documented_to_have(tokenizer: CLIPTokenizer) -> None:
    model = TinySD3(tokenizer)
    ids = torch.tensor(tokenizer(["a red cube"], padding="max_length", max_length=MAX_TOKENS).input_ids)
    with torch.no_grad():
        v = model(torch.zeros(1, *SHAPE), torch.tensor([0.5]), ids)
    assert v.shape == (1, *SHAPE)
    assert len(model.transformer.transformer_blocks) == 6
    assert model.transformer.inner_dim == 192


def test_the_time_label_is_a_thousand_t(tokenizer: CLIPTokenizer, small: None) -> None:
    model = TinySD3(tokenizer)
    seen: list[Tensor] = []
    model.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[3]))
    with torch.no_grad():
        model(torch.zeros(2, *SHAPE), torch.tensor([0.25, 1.0]), torch.zeros(2, MAX_TOKENS, dtype=torch.long))
    assert seen[0].tolist() == [250, 1000]


# Sampling


def gaussian_velocity(x_t: Tensor, t: Tensor, mean: Tensor, spread: float) -> Tensor:
    """E[e - x | x_t] for data N(mean, spread^2)."""
    t = t[:, None, None, None]
    off = (x_t - (1 - t) * mean) / ((1 - t) ** 2 * spread**2 + t**2)
    return t * off - (mean + (1 - t) * spread**2 * off)


def test_sampling_a_gaussian_ends_with_its_mean_and_spread() -> None:
    def model(x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return gaussian_velocity(x_t, t, torch.tensor(2.0), 0.3)

    ids = torch.zeros(4, MAX_TOKENS, dtype=torch.long)
    x = sample(model, ids, ids[0], steps=100, guidance_scale=1.0, seed=0)
    assert x.shape == (4, *SHAPE)
    assert x.mean().item() == pytest.approx(2.0, abs=0.02)
    assert x.std().item() == pytest.approx(0.3, rel=0.05)


def test_guidance_goes_from_the_empty_prompt_through_the_text() -> None:
    """Data of one point m each: Euler ends exactly at m_null + s (m_text - m_null), whatever the number of steps."""

    def model(x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return gaussian_velocity(x_t, t, ids[:, 0, None, None, None].float(), 0.0)

    ids = torch.tensor([3, 7])[:, None].expand(2, MAX_TOKENS)
    empty = torch.full((MAX_TOKENS,), 1)
    x = sample(model, ids, empty, steps=5, guidance_scale=4.0, seed=0)
    expected = torch.tensor([1 + 4 * (3 - 1), 1 + 4 * (7 - 1)], dtype=torch.float32)
    torch.testing.assert_close(x, expected[:, None, None, None].expand(2, *SHAPE), atol=1e-4, rtol=0)


def test_samples_repeat_with_the_seed() -> None:
    def model(x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return torch.zeros_like(x_t)

    ids = torch.zeros(1, MAX_TOKENS, dtype=torch.long)
    one, again, other = (sample(model, ids, ids[0], steps=1, guidance_scale=1, seed=s) for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
