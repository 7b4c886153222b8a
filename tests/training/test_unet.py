"""The UNets' losses against networks that are known in closed form, and their parts against diffusers' own."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from rfgs.priors.base import Condition
from rfgs.priors.flow import Flow
from training import unet
from training.latents import Latents
from training.text import MAX_TOKENS, write_tokenizer
from training.unet import (
    SHAPE,
    Pairs,
    TinyUNet,
    diffusion_loss,
    draw_pairs,
    new_scheduler,
    new_unet,
    rectified_loss,
)

Constant = Callable[..., Latents]


class Known(nn.Module):
    """A network that is a function of x_t, the time label and the first id."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, label: Tensor, ids: Tensor) -> Tensor:
        label, first = label[:, None, None, None].float(), ids[:, 0, None, None, None].float()
        return self.function(x_t.float(), label, first) + 0 * self.weight


def test_the_diffusion_loss_is_zero_for_the_true_noise_and_known_for_another(constant: Constant) -> None:
    alpha_bars = new_scheduler().alphas_cumprod
    assert alpha_bars[0].item() == pytest.approx(0.99915) and alpha_bars[-1].item() == pytest.approx(
        0.00466, rel=1e-3
    )

    def noise(x_t: Tensor, label: Tensor, first: Tensor) -> Tensor:
        a = alpha_bars[label.long()]
        return (x_t - a.sqrt() * 0.5) / (1 - a).sqrt()

    for off in (0.0, 0.3):
        network = Known(lambda *inputs, off=off: noise(*inputs) + off)
        data, generator = constant(), torch.Generator().manual_seed(0)
        loss = diffusion_loss(network, data, alpha_bars, data.draws.draw(32, 1, generator), generator)
        assert loss.item() == pytest.approx(off**2, abs=1e-6)
        loss.backward()


def test_the_rectified_loss_wants_data_minus_noise_at_a_thousand_t() -> None:
    generator = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 8, *SHAPE, generator=generator)
    t = torch.rand(8, generator=generator)
    ids = torch.zeros(8, MAX_TOKENS, dtype=torch.long)
    mix = t[:, None, None, None]

    def check(x_t: Tensor, label: Tensor, first: Tensor) -> Tensor:
        torch.testing.assert_close(label, 1000 * mix)
        torch.testing.assert_close(x_t, (1 - mix) * x + mix * e)
        return x - e + 0.2

    assert rectified_loss(Known(check), x, e, ids, t).item() == pytest.approx(0.04, rel=1e-4)


class Straight(Flow):
    """A flow from noise e to e + n for a text of n words."""

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(torch.tensor([[[float(len(prompt.split()))]] for prompt in prompts]))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return -condition.tokens[..., None].expand_as(x_t)


def test_pairs_are_noise_and_what_the_flow_makes_of_it(constant: Constant) -> None:
    teacher: Any = Straight()
    drawn = draw_pairs(teacher, constant(), 64, 3, steps=4, guidance_scale=1.0)
    first = drawn.ids[:, 0, None, None, None].float()
    torch.testing.assert_close(drawn.made.float(), drawn.noise.float() + first, atol=2e-2, rtol=0)
    assert (drawn.ids[:, 0] == 0).any() and drawn.noise.float().std().item() == pytest.approx(1, abs=0.01)
    again, other = (draw_pairs(teacher, constant(), 64, s, steps=4, guidance_scale=1.0) for s in (3, 4))
    assert torch.equal(again.noise, drawn.noise) and not torch.equal(other.noise, drawn.noise)


def test_a_batch_of_pairs_keeps_them_together() -> None:
    number = torch.arange(50)
    latents = number[:, None, None, None].expand(50, *SHAPE).half()
    pairs = Pairs(latents, latents + 100, number[:, None].expand(50, MAX_TOKENS))
    x, e, ids, t = pairs.draw(200, torch.Generator().manual_seed(0))
    assert torch.histc(t, 4, 0, 1).min() > 30
    assert x.dtype == e.dtype == torch.float32 and len(ids[:, 0].unique()) > 40
    assert torch.equal(x[:, 0, 0, 0], e[:, 0, 0, 0] + 100) and torch.equal(e[:, 0, 0, 0], ids[:, 0].float())


def test_attention_written_out_is_diffusers_own() -> None:
    torch.manual_seed(0)
    network = new_unet().eval()
    inputs = torch.randn(2, *SHAPE), torch.tensor([10.0, 700.0]), torch.randn(2, 24, 96)
    with torch.no_grad():
        theirs = network(*inputs).sample
        network.set_attn_processor(unet.WrittenOutAttention())
        torch.testing.assert_close(network(*inputs).sample, theirs, atol=1e-5, rtol=1e-4)


def test_the_text_encoder_ends_where_sd3_reads_it_whatever_the_words_numbers_are(tmp_path: Path) -> None:
    folder = Path(str(files("rfgs.assets"))) / "tiny-sd3"
    theirs = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    prompts = ["a red cube", ""]
    whole = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder").float()

    def ids(tokenizer: CLIPTokenizer) -> Tensor:
        return torch.tensor(tokenizer(prompts, padding="max_length", max_length=MAX_TOKENS).input_ids)

    with torch.no_grad():
        expected = whole(ids(theirs), output_hidden_states=True).hidden_states[-2]
        for tokenizer in (theirs, write_tokenizer(["cube", "unicorn", "red", "a"], tmp_path)):
            model = TinyUNet(tokenizer)
            model.start_from(folder)
            tokens = model.text_encoder(ids(tokenizer))[0]
            torch.testing.assert_close(tokens, F.layer_norm(expected, (96,)))
            # And from a model with a UNet all of it.
            for name, part in (
                ("unet", model.unet),
                ("text_encoder", model.text_encoder),
                ("tokenizer", tokenizer),
            ):
                part.save_pretrained(tmp_path / "sd" / name)
            again = TinyUNet(theirs)
            again.start_from(tmp_path / "sd")
            torch.testing.assert_close(again.text_encoder(ids(theirs))[0], tokens)
            for name, weight in model.unet.state_dict().items():
                assert torch.equal(weight, again.unet.state_dict()[name]), name
