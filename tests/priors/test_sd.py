"""Stable Diffusion's adapter against diffusers' own pipeline, on models with random weights in the same layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)

from rfgs.errors import UserError
from rfgs.priors import guided, load_prior
from rfgs.priors.fit import embed_and_release, fit_views
from rfgs.priors.flow import estimate_x0, interpolate, per_sample
from tests.priors import layouts

SCHEDULERS = {
    # Stable Diffusion 1.5 and 2.1 base come with it.
    "sd15": lambda: layouts.sd_schedule(PNDMScheduler, skip_prk_steps=True, set_alpha_to_one=False),
    # As 2.1 at 768 pixels.
    "sd21-v": lambda: layouts.sd_schedule(
        DDIMScheduler, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
    ),
    "euler": lambda: layouts.sd_schedule(EulerDiscreteScheduler),
    "ancestral": lambda: layouts.sd_schedule(EulerAncestralDiscreteScheduler),
}


@pytest.fixture(scope="module", params=SCHEDULERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.stable_diffusion(tmp_path_factory.mktemp(request.param), SCHEDULERS[request.param]())


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.stable_diffusion(tmp_path_factory.mktemp("sd15"), SCHEDULERS["sd15"]())


@pytest.fixture(scope="module")
def sd21v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.stable_diffusion(tmp_path_factory.mktemp("sd21v"), SCHEDULERS["sd21-v"]())


def pipeline_of(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_whole_trajectory_is_the_pipelines(folder: Path) -> None:
    prior = load_prior(folder, "diffusion")
    ours = prior.sample(
        prior.embed(["a red cube", "blue"]),
        prior.embed(["blue", ""]),
        steps=6,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
    )
    theirs = pipeline_of(folder)(
        ["a red cube", "blue"],
        negative_prompt=["blue", ""],
        num_inference_steps=6,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images
    assert ours.shape == (2, 3, 64, 64) and ours.std() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_text_embeddings_are_the_pipelines(sd15: Path) -> None:
    prior = load_prior(sd15, "diffusion")
    tokens, null = pipeline_of(sd15).encode_prompt(["a red cube", "blue"], "cpu", 1, True, ["", ""])
    torch.testing.assert_close(prior.embed(["a red cube", "blue"]).tokens, tokens)
    torch.testing.assert_close(prior.embed(["", ""]).tokens, null)


def test_text_encoders_are_freed_and_come_back(sd15: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = load_prior(sd15, "diffusion")
    before = prior.embed(["a red cube"]).tokens
    prior.release_text()
    assert prior.text._encoders is None
    # What is known needs no encoder, and what is new loads it again for a moment.
    with monkeypatch.context() as patch:
        patch.setattr(prior.text, "_load", lambda: pytest.fail("the encoder is not needed"))
        assert torch.equal(prior.embed(["a red cube"]).tokens, before)
    assert not torch.equal(prior.embed(["blue"]).tokens, before) and prior.text._encoders is None


def test_epsilon_is_the_unets_output_at_the_nearest_step(sd15: Path) -> None:
    prior = load_prior(sd15, "diffusion")
    condition = prior.embed(["a red cube", "blue", ""])
    x_t = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.0204, 0.5, 1.0])
    with torch.no_grad():
        expected = pipeline_of(sd15).unet(x_t, torch.tensor([20, 500, 999]), condition.tokens).sample
    torch.testing.assert_close(prior.predict(x_t, t, condition), expected)


def test_alpha_bars_are_those_of_the_schedule(sd15: Path) -> None:
    """Stable Diffusion's betas: squares of an even walk between the roots of 0.00085 and 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    expected = torch.cumprod(1 - betas, 0)[[0, 20, 980, 999]].float()
    prior, t = load_prior(sd15, "diffusion"), torch.tensor([0.0, 0.02, 0.98, 1.0])
    data, noise = prior.powers(t)
    torch.testing.assert_close(data, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(noise, 1 - data)
    for share, power in zip(prior.alpha_sigma(t), (data, noise), strict=True):
        torch.testing.assert_close(share.square(), power)


def test_v_prediction_is_turned_into_the_noise(sd21v: Path) -> None:
    """A network that knew the answer, v = sqrt(a) e - sqrt(1 - a) x, must give e back."""
    prior = load_prior(sd21v, "diffusion")
    generator = torch.Generator().manual_seed(2)
    x, e = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
    t = torch.tensor([0.1, 0.9])
    alpha, sigma = (per_sample(share, x) for share in prior.alpha_sigma(t))
    prior._network = lambda *_, **__: (alpha * e - sigma * x,)
    x_t = interpolate(prior, x, e, t)
    torch.testing.assert_close(prior.predict(x_t, t, prior.embed(["a", "a"])), e, atol=1e-5, rtol=1e-5)


def test_v_prediction_agrees_with_diffusers(sd21v: Path) -> None:
    """Denoised with our epsilon, x is what diffusers' DDIM says it is."""
    prior, pipeline = load_prior(sd21v, "diffusion"), pipeline_of(sd21v)
    condition = prior.embed(["a red cube"])
    x_t, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)), torch.tensor([0.6])
    with torch.no_grad():
        output = pipeline.unet(x_t, 600, condition.tokens).sample
    pipeline.scheduler.set_timesteps(10)
    expected = pipeline.scheduler.step(output, 600, x_t).pred_original_sample
    ours = estimate_x0(prior, x_t, prior.predict(x_t, t, condition), t)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_guidance_mixes_two_single_evaluations(sd15: Path) -> None:
    prior = load_prior(sd15, "diffusion")
    text, null = prior.embed(["a red cube"]), prior.embed([""])
    x_t, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([0.5])
    e_text, e_null = prior.predict(x_t, t, text), prior.predict(x_t, t, null)
    assert (e_text - e_null).abs().max() > 1e-3
    found = guided(prior, x_t, t, text, null, 7.5)
    torch.testing.assert_close(found, e_null + 7.5 * (e_text - e_null), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(guided(prior, x_t, t, text, null, 1), e_text)


def test_an_evaluation_in_batches(sd15: Path) -> None:
    prior = load_prior(sd15, "diffusion")
    x_t, t = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(6)), torch.linspace(0.1, 0.9, 5)
    condition = prior.embed(["a red cube", "blue", "", "a", "red"])
    whole = prior.predict(x_t, t, condition)
    prior.max_batch = 2
    with torch.no_grad():
        parts = prior.predict(x_t, t, condition)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_latents_are_scaled(sd15: Path) -> None:
    prior, vae = load_prior(sd15, "diffusion"), pipeline_of(sd15).vae
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = 0.18215 * vae.encode(2 * images - 1).latent_dist.mean
        decoded = (vae.decode(expected / 0.18215).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(prior.encode(images), expected)
    torch.testing.assert_close(prior.decode(expected), decoded)


def test_views_encoded_one_by_one_have_the_same_gradient(sd15: Path) -> None:
    prior = load_prior(sd15, "diffusion")
    weights = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    gradients = []
    for sliced in (False, True):
        prior.autoencoder.slice_views = sliced
        images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(6), requires_grad=True)
        (prior.encode(images) * weights).sum().backward()
        gradients.append(images.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-4)


def test_an_encoder_in_half_precision(sd15: Path) -> None:
    exact, half = load_prior(sd15, "diffusion"), load_prior(sd15, "diffusion")
    half.autoencoder.to(torch.bfloat16)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    ours = half.encode(images)
    assert ours.dtype == torch.float32 and half.decode(ours).dtype == torch.float32
    assert ((ours - exact.encode(images)).norm() / exact.encode(images).norm()).item() < 0.03


def test_the_tiny_autoencoder(sd15: Path, tmp_path: Path) -> None:
    """Some folders have `AutoencoderTiny`, whose latents come scaled; the pipeline takes it as well."""
    pipeline = pipeline_of(sd15)
    blocks = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    pipeline.vae = AutoencoderTiny(**blocks, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4)
    pipeline.save_pretrained(tmp_path)
    prior = load_prior(tmp_path, "diffusion")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(prior.encode(images), pipeline.vae.encode(2 * images - 1).latents)
    arguments = {"guidance_scale": 3.0, "generator": torch.Generator().manual_seed(3)}
    ours = prior.sample(prior.embed(["red"]), prior.embed(["blue"]), steps=3, **arguments)
    arguments["generator"].manual_seed(3)
    theirs = pipeline(
        "red", negative_prompt="blue", num_inference_steps=3, output_type="pt", **arguments
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_bfloat16_stays_close_to_float32(sd15: Path) -> None:
    exact, half = (load_prior(sd15, "diffusion", dtype=dtype) for dtype in (None, torch.bfloat16))
    x_t, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5)), torch.tensor([0.3, 0.8])
    e, e_half = (p.predict(x_t, t, p.embed(["a red cube", "blue"])) for p in (exact, half))
    assert e_half.dtype == torch.float32
    assert ((e - e_half).norm() / e.norm()).item() < 0.05


def test_gradients_reach_only_what_is_trained(sd15: Path) -> None:
    """A LoRA on the network learns where gradients are on; guidance lets nothing through."""
    prior = load_prior(sd15, "diffusion")
    x_t, t = torch.zeros(1, 4, 8, 8, requires_grad=True), torch.tensor([0.5])
    condition = prior.embed(["red"])
    assert not guided(prior, x_t, t, condition, condition, 2.0).requires_grad
    bias = prior.network.conv_out.bias.requires_grad_()
    prior.predict(x_t, t, condition).sum().backward()
    assert torch.equal(bias.grad, torch.full((4,), 64.0)) and x_t.grad is not None
    assert prior.network.conv_out.weight.grad is None


def test_it_is_no_flow(sd15: Path) -> None:
    with pytest.raises(UserError, match="a diffusion model, which only the guidances sds and vsd can use"):
        load_prior(sd15)
    assert load_prior(sd15, None).kind == "diffusion"


def test_a_network_that_predicts_the_sample(tmp_path: Path) -> None:
    folder = layouts.stable_diffusion(tmp_path, layouts.sd_schedule(DDIMScheduler, prediction_type="sample"))
    with pytest.raises(UserError, match="predicts 'sample'"):
        load_prior(folder, "diffusion")


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler"])
def test_a_folder_with_a_part_missing(sd15: Path, tmp_path: Path, part: str) -> None:
    for file in sd15.rglob("*"):
        if file.is_file() and file.parent.name != part:
            target = tmp_path / file.relative_to(sd15)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    with pytest.raises(
        UserError, match=f"incomplete model: the part {part}/ is missing; download or copy it again"
    ):
        load_prior(tmp_path, "diffusion")


def test_weights_cut_short(sd15: Path, tmp_path: Path) -> None:
    for file in sd15.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(sd15)
            target.parent.mkdir(parents=True, exist_ok=True)
            cut = -100 if file.parent.name == "unet" and file.suffix == ".safetensors" else None
            target.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError, match="incomplete model: unet/.* is cut short"):
        load_prior(tmp_path, "diffusion")


def test_prompts_are_embedded_before_the_loop(sd15: Path) -> None:
    prior = load_prior(sd15, "diffusion")
    embed_and_release(prior, ["a red cube", "blue", "blue"])
    assert prior.text._encoders is None
    assert len(prior.embed(["blue", "a red cube"])) == 2 and prior.text._encoders is None


def test_the_encoder_is_fitted_to_what_is_free(sd15: Path) -> None:
    """Shares of what the real encoder takes: this one has a few thousand parameters of 84 million."""
    prior = load_prior(sd15, "diffusion")
    share = sum(p.numel() for p in prior.autoencoder.module.parameters()) / 83_000_000
    assert fit_views(prior, views=4, size=512) is None  # There is enough for a few thousand.
    assert fit_views(prior, views=4, size=512, free=int(14 * share * 2**30)) is None
    assert not prior.autoencoder.slice_views and prior.max_batch is None
    much, reserve = (int(gib * share * 2**30) for gib in (14, 10))
    assert "one by one to fit" in str(fit_views(prior, views=4, size=512, free=much, reserve=reserve))
    said = fit_views(prior, views=4, size=512, free=much, reserve=much, reserve_sliced=reserve)
    assert said == "views go through the model one by one to fit the memory"
    assert prior.autoencoder.slice_views and prior.autoencoder.module.dtype == torch.float32
    assert prior.max_batch == 2
    assert "half precision" in fit_views(prior, views=4, size=512, free=int(2 * share * 2**30))
    assert prior.autoencoder.module.dtype == torch.bfloat16
