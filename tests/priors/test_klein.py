"""FLUX.2 klein's adapter against diffusers' own pipeline, on a model with random weights in the same layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from rfgs.distill.recipes import recipe
from rfgs.errors import UserError
from rfgs.flat.recipes import flowedit_recipe
from rfgs.priors import guided, load_prior
from rfgs.priors.klein import log_shift, positions
from tests.priors.layouts import READ

PROMPTS = ["a red cube", "blue"]


@pytest.fixture(scope="module")
def pipeline(klein: Path) -> Flux2KleinPipeline:
    pipeline = Flux2KleinPipeline.from_pretrained(klein)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def prior(klein: Path) -> Any:
    return load_prior(klein)


def test_text_embeddings_are_the_pipelines(prior: Any, pipeline: Flux2KleinPipeline) -> None:
    """The prompt as a turn of a chat without a thought, and what three of the layers make of it, padding included."""
    tokens, places = pipeline.encode_prompt(PROMPTS, max_sequence_length=READ)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-2
    torch.testing.assert_close(prior.embed(PROMPTS).tokens, tokens, atol=1e-4, rtol=1e-4)
    assert torch.equal(positions(1, 1, READ), places[0])


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_a_whole_trajectory_is_the_pipelines(
    prior: Any, pipeline: Flux2KleinPipeline, guidance_scale: float
) -> None:
    settings: dict[str, Any] = {"guidance_scale": guidance_scale}
    ours = prior.sample(
        prior.embed(PROMPTS),
        prior.embed(["", ""]),
        steps=4,
        generator=torch.Generator().manual_seed(3),
        size=64,
        **settings,
    )
    theirs = pipeline(
        prompt=PROMPTS,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(3),
        height=64,
        width=64,
        max_sequence_length=READ,
        output_type="pt",
        **settings,
    ).images
    assert ours.shape == (2, 3, 64, 64) and ours.std() > 1e-2 and (ours[0] - ours[1]).abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_guided_velocity_is_the_pipelines(
    prior: Any, pipeline: Flux2KleinPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its sampler hands to the scheduler, from the latents that it handed over; not square."""
    step, steps = pipeline.scheduler.step, []

    def watched(v: torch.Tensor, label: torch.Tensor, x: torch.Tensor, **options: Any) -> Any:
        steps.append((v, label, x))
        return step(v, label, x, **options)

    monkeypatch.setattr(pipeline.scheduler, "step", watched)
    pipeline(
        prompt="a red cube",
        num_inference_steps=3,
        guidance_scale=5.0,
        height=64,
        width=32,
        max_sequence_length=READ,
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
    )
    for v, label, x in steps:
        x_t, expected = (tensor.mT.reshape(1, 16, 4, 2) for tensor in (x, v))
        found = guided(
            prior, x_t, label.reshape(1) / 1000, prior.embed(["a red cube"]), prior.embed([""]), 5.0
        )
        assert expected.std() > 1e-2
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_latents_are_packed_and_normalized_by_the_models_statistics(
    prior: Any, pipeline: Flux2KleinPipeline
) -> None:
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(4), requires_grad=True)
    with torch.no_grad():
        expected = pipeline._encode_vae_image(2 * images - 1, generator=None)
    found = prior.encode(images)
    assert found.shape == (2, 16, 4, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.square().sum().backward()
    assert images.grad is not None and images.grad.std() > 1e-6
    with torch.no_grad():
        latents = pipeline.vae.encode(2 * images - 1).latent_dist.mode()
        decoded = (pipeline.vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(prior.decode(found.detach()), decoded, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="72x64 pixels: this model takes multiples of 16"):
        prior.encode(torch.rand(1, 3, 64, 72))


def test_bfloat16_stays_close_to_float32(klein: Path, prior: Any) -> None:
    half = load_prior(klein, dtype=torch.bfloat16)
    x_t, condition = (
        torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(5)),
        prior.embed(PROMPTS),
    )
    # Times that bfloat16 can hold: others are rounded, as in diffusers' pipeline.
    t = torch.tensor([0.256, 0.752])
    v, v_half = prior.predict(x_t, t, condition), half.predict(x_t, t, condition.to(t.device, torch.bfloat16))
    assert v_half.dtype == torch.float32
    assert ((v - v_half).norm() / v.norm()).item() < 0.05


def test_how_far_sampling_leans_to_the_noise(prior: Any, pipeline: Flux2KleinPipeline) -> None:
    """Half way of an even walk of 50 steps, as diffusers' scheduler moves it for images of 512 pixels, 1024 tokens."""
    assert prior.image_size == 512 and prior.autoencoder.factor == 16
    pipeline.scheduler.set_timesteps(sigmas=[0.5], mu=compute_empirical_mu(1024, 50))
    moved = prior.time_shift * 0.5 / (1 + (prior.time_shift - 1) * 0.5)
    assert pipeline.scheduler.sigmas[0].item() == pytest.approx(moved, abs=1e-6)
    for tokens, steps in ((256, 4), (4096, 28), (4400, 28)):
        assert log_shift(tokens, steps) == pytest.approx(compute_empirical_mu(tokens, steps))


def test_the_distilled_one_says_so_and_wants_no_guidance(prior: Any, klein: Path, tmp_path: Path) -> None:
    assert not prior.distilled and recipe(prior).guidance_scale == 50
    folder = Path(shutil.copytree(klein, tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["is_distilled"] is False  # As the pipeline writes it.
    (folder / "model_index.json").write_text(json.dumps(index | {"is_distilled": True}))
    distilled = load_prior(folder)
    assert recipe(distilled).guidance_scale == flowedit_recipe(distilled).target_scale == 1


def test_places_of_tokens(pipeline: Flux2KleinPipeline) -> None:
    assert torch.equal(positions(2, 3, 1), pipeline._prepare_latent_ids(torch.zeros(1, 1, 2, 3))[0])
