"""FLUX's adapter against diffusers' own pipeline, on models with random weights in the same layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from rfgs.errors import UserError
from rfgs.priors import guided, load_prior
from rfgs.priors.flux import pack, positions, unpack
from tests.priors import layouts


@pytest.fixture(scope="module", params=["dev", "schnell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.flux(tmp_path_factory.mktemp(request.param), dev=request.param == "dev")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tokens_of_text(pipeline: FluxPipeline) -> int:
    return 512 if pipeline.transformer.config.guidance_embeds else 256


def test_text_embeddings_are_the_pipelines(folder: Path, pipeline: FluxPipeline) -> None:
    prompts = ["a red cube", "blue"]
    condition = load_prior(folder).embed(prompts)
    tokens, pooled, _ = pipeline.encode_prompt(prompts, None, max_sequence_length=tokens_of_text(pipeline))
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3
    torch.testing.assert_close(condition.tokens, tokens, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(condition.pooled, pooled)


def test_embeddings_are_kept_on_disk(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """T5 is not loaded for a prompt that an earlier run had; a damaged file is made again."""
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path))
    before = load_prior(folder).embed(["a red cube", "blue"])
    files = list(tmp_path.glob("embeddings/*.safetensors"))
    assert len(files) == 2
    again = load_prior(folder)
    found = again.embed(["blue", "a red cube"])
    assert again.text._encoders is None
    assert torch.equal(found.tokens, before[[1, 0]].tokens) and torch.equal(
        found.pooled, before[[1, 0]].pooled
    )
    for file in files:
        file.write_bytes(file.read_bytes()[:-9])
    mended = load_prior(folder).embed(["a red cube"])
    torch.testing.assert_close(mended.tokens, before[[0]].tokens)
    # Another precision, or encoders that changed, are another embedding.
    half = load_prior(folder, dtype=torch.bfloat16)
    assert half.embed(["blue"]).tokens.dtype == torch.bfloat16 and half.text._encoders is not None


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_whole_trajectory_is_the_pipelines(
    folder: Path, pipeline: FluxPipeline, guidance_scale: float
) -> None:
    prior = load_prior(folder)
    prior.distilled_guidance = 2.5
    ours = prior.sample(
        prior.embed(["a red cube"]),
        prior.embed(["blue"]),
        steps=4,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(3),
        size=64,
    )
    theirs = pipeline(
        "a red cube",
        negative_prompt="blue",
        num_inference_steps=4,
        guidance_scale=2.5,
        true_cfg_scale=guidance_scale,
        generator=torch.Generator().manual_seed(3),
        height=64,
        width=64,
        max_sequence_length=tokens_of_text(pipeline),
        output_type="pt",
    ).images
    assert ours.shape == (1, 3, 64, 64) and ours.std() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_velocity_is_the_transformers(folder: Path, pipeline: FluxPipeline) -> None:
    """Packed, labeled and unpacked by diffusers' own helpers, on latents that are not square."""
    prior = load_prior(folder)
    condition = prior.embed(["a red cube", "blue"])
    x_t = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.2, 0.9])
    guidance = torch.full((2,), 3.5) if pipeline.transformer.config.guidance_embeds else None
    with torch.no_grad():
        packed = pipeline.transformer(
            hidden_states=pipeline._pack_latents(x_t, 2, 16, 4, 6),
            encoder_hidden_states=condition.tokens,
            pooled_projections=condition.pooled,
            timestep=t,
            guidance=guidance,
            img_ids=pipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32),
            txt_ids=torch.zeros(condition.tokens.shape[1], 3),
        ).sample
    expected = pipeline._unpack_latents(packed, 32, 48, 8)
    assert expected.std() > 1e-3
    torch.testing.assert_close(prior.predict(x_t, t, condition), expected, atol=1e-5, rtol=1e-4)


def test_the_distilled_guidance_is_an_input_of_dev_only(folder: Path, pipeline: FluxPipeline) -> None:
    prior = load_prior(folder)
    condition = prior.embed(["a red cube"])
    x_t, t = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([0.5])
    before = prior.predict(x_t, t, condition)
    prior.distilled_guidance = 8.0
    changed = (prior.predict(x_t, t, condition) - before).abs().max() > 1e-4
    assert changed == pipeline.transformer.config.guidance_embeds


def test_guidance_mixes_two_single_evaluations(folder: Path) -> None:
    prior = load_prior(folder)
    text, null = prior.embed(["a red cube"]), prior.embed([""])
    x_t, t = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([0.5])
    v_text, v_null = prior.predict(x_t, t, text), prior.predict(x_t, t, null)
    found = guided(prior, x_t, t, text, null, 5.0)
    torch.testing.assert_close(found, v_null + 5 * (v_text - v_null), atol=1e-5, rtol=1e-4)


def test_latents_are_shifted_and_scaled(folder: Path, pipeline: FluxPipeline) -> None:
    prior = load_prior(folder)
    images = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        mean = pipeline.vae.encode(2 * images - 1).latent_dist.mean
        decoded = (pipeline.vae.decode(mean).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(prior.encode(images), (mean - 0.1159) * 0.3611)
    torch.testing.assert_close(prior.decode((mean - 0.1159) * 0.3611), decoded, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="72x64 pixels: this model takes multiples of 16"):
        prior.encode(torch.rand(1, 3, 64, 72))


def test_bfloat16_stays_close_to_float32(folder: Path) -> None:
    exact, half = load_prior(folder), load_prior(folder, dtype=torch.bfloat16)
    x_t = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(5))
    # Times and a guidance that bfloat16 can hold: others are rounded, as in diffusers' pipeline.
    t = torch.tensor([0.256, 0.752])
    exact.distilled_guidance = half.distilled_guidance = 4.0
    v, v_half = (p.predict(x_t, t, p.embed(["a red cube", "blue"])) for p in (exact, half))
    assert v_half.dtype == torch.float32
    assert ((v - v_half).norm() / v.norm()).item() < 0.05


def test_how_far_sampling_leans_to_the_noise(folder: Path, pipeline: FluxPipeline) -> None:
    """Half way of an even walk, as diffusers' scheduler moves it for images of 512 pixels, which are 1024 tokens."""
    prior = load_prior(folder)
    assert prior.image_size == 512
    pipeline.scheduler.set_timesteps(sigmas=[0.5], mu=calculate_shift(1024))
    moved = prior.time_shift * 0.5 / (1 + (prior.time_shift - 1) * 0.5)
    assert pipeline.scheduler.sigmas[0].item() == pytest.approx(moved, abs=1e-6)


def test_packing_has_an_inverse() -> None:
    x = torch.randn(2, 16, 6, 4)
    assert torch.equal(unpack(pack(x), 3, 2), x)
    assert positions(2, 3).tolist()[4] == [0, 1, 1]
