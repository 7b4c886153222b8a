"""Z-Image's adapter against diffusers' own pipeline, on models with random weights in the same layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

from rfgs.distill.view_prompts import mixed
from rfgs.errors import UserError
from rfgs.priors import guided, load_prior
from tests.priors.layouts import READ

PROMPTS = ["a red cube", "blue"]
SCHEDULERS = {
    "shifted": {"shift": 6.0},
    "by size": {"shift": 3.0, "use_dynamic_shifting": True},
}


@pytest.fixture(scope="module")
def pipeline(z_image: Path) -> ZImagePipeline:
    pipeline = ZImagePipeline.from_pretrained(z_image)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def prior(z_image: Path) -> Any:
    return load_prior(z_image)


def test_text_embeddings_are_the_pipelines(prior: Any, pipeline: ZImagePipeline) -> None:
    """The prompt as a turn of a chat, what the last layer but one makes of it, and zeros instead of its padding."""
    theirs, _ = pipeline.encode_prompt(
        list(PROMPTS), do_classifier_free_guidance=False, max_sequence_length=READ
    )
    assert len({len(one) for one in theirs}) == 2
    for ours, one in zip(prior.embed(PROMPTS).tokens, theirs, strict=True):
        assert ours.shape == (READ, 8) and not ours[len(one) :].any()
        torch.testing.assert_close(ours[: len(one)], one, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_a_whole_trajectory_is_the_pipelines(
    prior: Any,
    pipeline: ZImagePipeline,
    guidance_scale: float,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their scale of guidance is one less than ours."""
    monkeypatch.setattr(prior, "scheduler_config", SCHEDULERS[scheduler])
    monkeypatch.setattr(pipeline, "scheduler", FlowMatchEulerDiscreteScheduler(**SCHEDULERS[scheduler]))
    ours = prior.sample(
        prior.embed(PROMPTS),
        prior.embed(["green", "green"]),
        steps=4,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(3),
        size=64,
    )
    theirs = pipeline(
        list(PROMPTS),
        negative_prompt=["green", "green"],
        num_inference_steps=4,
        guidance_scale=guidance_scale - 1,
        generator=torch.Generator().manual_seed(3),
        height=64,
        width=64,
        max_sequence_length=READ,
        output_type="pt",
    ).images
    assert ours.shape == (2, 3, 64, 64) and ours.std() > 1e-2 and (ours[0] - ours[1]).abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_guided_velocity_is_the_pipelines(
    prior: Any, pipeline: ZImagePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its sampler hands to the scheduler, from the latents that it handed over; not square."""
    step, steps = pipeline.scheduler.step, []

    def watched(v: torch.Tensor, label: torch.Tensor, x: torch.Tensor, **options: Any) -> Any:
        steps.append((v, label, x))
        return step(v, label, x, **options)

    monkeypatch.setattr(pipeline.scheduler, "step", watched)
    pipeline(
        "a red cube",
        negative_prompt="blue",
        num_inference_steps=3,
        guidance_scale=4.0,
        height=64,
        width=48,
        max_sequence_length=READ,
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
    )
    text, null = prior.embed(["a red cube"]), prior.embed(["blue"])
    for v, label, x in steps:
        assert v.shape == (1, 16, 8, 6) and v.std() > 1e-2
        found = guided(prior, x, label.reshape(1) / 1000, text, null, 5.0)
        torch.testing.assert_close(found, v, atol=1e-4, rtol=1e-4)


def test_prompts_can_be_mixed(prior: Any) -> None:
    """Half of either, as long as the longer; all of one is that one."""
    conditions = prior.embed(PROMPTS)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    x_t, t = torch.randn(3, 16, 4, 4, generator=torch.Generator().manual_seed(2)), torch.full((3,), 0.5)
    found = prior.predict(x_t, t, mixed(conditions, weights))
    expected = prior.predict(x_t[:2], t[:2], conditions)
    torch.testing.assert_close(found[:2], expected, atol=1e-5, rtol=1e-4)
    assert found.isfinite().all()


def test_latents_are_shifted_and_scaled(prior: Any, pipeline: ZImagePipeline) -> None:
    images = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        mean = pipeline.vae.encode(2 * images - 1).latent_dist.mean
    torch.testing.assert_close(prior.encode(images), (mean - 0.1159) * 0.3611)
    with pytest.raises(UserError, match="72x64 pixels: this model takes multiples of 16"):
        prior.encode(torch.rand(1, 3, 64, 72))


def test_bfloat16_stays_close_to_float32(z_image: Path, prior: Any) -> None:
    half = load_prior(z_image, dtype=torch.bfloat16)
    x_t, condition = (
        torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(5)),
        prior.embed(PROMPTS),
    )
    t = torch.tensor([0.25, 0.75])
    v, v_half = prior.predict(x_t, t, condition), half.predict(x_t, t, condition.to(t.device, torch.bfloat16))
    assert v_half.dtype == torch.float32
    assert ((v - v_half).norm() / v.norm()).item() < 0.05


def test_how_far_sampling_leans_to_the_noise(prior: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prior.image_size == 512 and prior.time_shift == 6.0
    # By size as FLUX's: 512 pixels are 1024 tokens.
    by_size = FlowMatchEulerDiscreteScheduler(**SCHEDULERS["by size"])
    monkeypatch.setattr(prior, "scheduler_config", SCHEDULERS["by size"])
    by_size.set_timesteps(sigmas=[0.5], mu=0.5 + (1024 - 256) / (4096 - 256) * 0.65)
    moved = prior.time_shift * 0.5 / (1 + (prior.time_shift - 1) * 0.5)
    assert by_size.sigmas[0].item() == pytest.approx(moved, abs=1e-6)
