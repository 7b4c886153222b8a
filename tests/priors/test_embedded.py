"""The models that ship: small, whole, and able to draw what they are asked for."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from rfgs.priors import load_prior
from rfgs.tinyworld.language import vocabulary

EMBEDDED = {"tiny-sd3": "flow", "tiny-instaflow": "flow", "tiny-sd": "diffusion"}
ASSETS = Path(str(files("rfgs.assets")))


@pytest.mark.parametrize("name", EMBEDDED)
def test_its_folder_is_small_and_says_how_it_was_made(name: str) -> None:
    size = sum(path.stat().st_size for path in (ASSETS / name).rglob("*") if path.is_file())
    assert size < 20e6
    training = json.loads((ASSETS / name / "training.json").read_text())
    assert training["arguments"]["seed"]
    before = training["started_from"]
    assert before.get("rectified", before)["samples"] > 100_000  # A flow's training has two stages.


@pytest.mark.parametrize("name", EMBEDDED)
def test_its_words_are_of_the_world_and_each_is_one_token(name: str) -> None:
    """It may be older than the world, and know fewer words; then it says which."""
    words = json.loads((ASSETS / name / "rfgs.json").read_text())["vocabulary"]
    assert set(words) <= set(vocabulary()) and {"a", "red", "cube", "view"} <= set(words)
    for folder in (ASSETS / name).glob("tokenizer*"):
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
        assert [word for word, found in zip(words, ids, strict=True) if len(found) != 1] == []
        assert len({found[0] for found in ids}) == len(words)


@pytest.mark.parametrize(("name", "kind"), EMBEDDED.items())
def test_it_draws_what_it_is_asked_for(name: str, kind: str) -> None:
    prior = load_prior(name, None)
    assert prior.kind == kind and prior.image_size == 128
    words = json.loads((ASSETS / name / "rfgs.json").read_text())["vocabulary"]
    assert prior.vocabulary == frozenset(words)
    prompts = [f"a {color} sphere, front view" for color in ("red", "blue")]
    red, blue = prior.sample(
        prior.embed(prompts),
        prior.embed([""] * 2),
        steps=12,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0),
    )
    for image, channel in ((red, 0), (blue, 2)):
        middle = image[:, 48:80, 48:80].mean((1, 2))
        assert middle.argmax() == channel and middle[channel] > 2 * middle[2 - channel]
        corner = image[:, :16, :16].mean((1, 2))
        assert corner.max() - corner.min() < 0.1  # Grey, of whatever lightness.


@pytest.mark.parametrize("name", EMBEDDED)
def test_it_is_there_without_a_bar_of_progress(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    load_prior(name, None).embed(["a red cube"])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", EMBEDDED)
def test_its_encoder_in_one_product_is_the_autoencoder_s_with_its_gradient(name: str) -> None:
    """Of pictures that are not square, whose rows and columns a product could mistake."""
    autoencoder: Any = load_prior(name, None).autoencoder  # type: ignore[attr-defined]
    assert autoencoder.linear is not None
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0), requires_grad=True)
    latents = autoencoder.encode(images)
    weights = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    config = autoencoder.module.config
    expected = autoencoder.module.encode(2 * images - 1).latents
    expected = (expected - (config.get("shift_factor") or 0.0)) * config["scaling_factor"]
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)
    gradients = [torch.autograd.grad((x * weights).sum(), images)[0] for x in (latents, expected)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
