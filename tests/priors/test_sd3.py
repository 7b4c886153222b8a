"""The SD3 adapter against diffusers' own pipeline, on a model with random weights in the same layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from rfgs.errors import UserError
from rfgs.priors import Condition, load_prior, unknown_words
from rfgs.priors.base import guided
from tests.priors import layouts


@pytest.fixture(scope="module", params=["with T5", "without T5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD3 with random weights, a shifted scheduler and latents as SD3 scales them."""
    return layouts.stable_diffusion_3(tmp_path_factory.mktemp("sd3"), t5=request.param == "with T5")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusion3Pipeline:
    # A folder without T5 is loaded by the pipeline only if it is told so.
    without = {} if (folder / "text_encoder_3").exists() else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, **without)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_text_embeddings_are_the_pipelines(folder: Path, pipeline: StableDiffusion3Pipeline) -> None:
    prompts = ["a red cube", "blue"]
    condition = load_prior(folder).embed(prompts)
    tokens, _, pooled, _ = pipeline.encode_prompt(
        prompts, prompts, prompts, do_classifier_free_guidance=False
    )
    torch.testing.assert_close(condition.tokens, tokens)
    torch.testing.assert_close(condition.pooled, pooled)


def test_t5_dropped_is_the_pipeline_without_it(folder: Path) -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    prompts = ["a red cube", "blue"]
    condition = load_prior(folder, t5="drop").embed(prompts)
    tokens = pipe.encode_prompt(prompts, prompts, prompts, do_classifier_free_guidance=False)[0]
    torch.testing.assert_close(condition.tokens, tokens)


def test_text_encoders_are_freed(folder: Path) -> None:
    prior = load_prior(folder)
    before = prior.embed(["a red cube", "blue"])
    prior.release_text()
    assert torch.equal(prior.embed(["blue"]).tokens, before[[1]].tokens) and prior.text._encoders is None


def test_an_evaluation_in_batches(folder: Path) -> None:
    prior = load_prior(folder)
    x, t = torch.randn(5, 16, 8, 8, generator=torch.Generator().manual_seed(6)), torch.linspace(0.1, 0.9, 5)
    condition = prior.embed(["a red cube", "blue", "", "a", "red"])
    whole = prior.predict(x, t, condition)
    prior.max_batch = 2
    sizes = []
    prior.network.register_forward_pre_hook(
        lambda module, args, given: sizes.append(len(given["hidden_states"])), with_kwargs=True
    )
    with torch.no_grad():
        parts = prior.predict(x, t, condition)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)
    prior.predict(x, t, condition)  # What is kept for a gradient is kept anyway.
    assert sizes == [2, 2, 1, 5]


def test_a_whole_trajectory_is_the_pipelines(folder: Path, pipeline: StableDiffusion3Pipeline) -> None:
    prior = load_prior(folder)
    ours = prior.sample(
        prior.embed(["a red cube"]),
        prior.embed(["blue"]),
        steps=6,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
    )
    theirs = pipeline(
        "a red cube",
        negative_prompt="blue",
        num_inference_steps=6,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        height=64,
        width=64,
        output_type="pt",
    ).images
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_velocity_is_the_transformer_at_1000_t(folder: Path, pipeline: StableDiffusion3Pipeline) -> None:
    prior = load_prior(folder)
    condition = prior.embed(["a red cube", "blue"])
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.2, 0.9])
    with torch.no_grad():
        expected = pipeline.transformer(
            x, condition.tokens, condition.pooled, torch.tensor([200.0, 900.0]), return_dict=False
        )[0]
    torch.testing.assert_close(prior.predict(x, t, condition), expected)


def test_guidance_mixes_two_single_evaluations(folder: Path) -> None:
    prior = load_prior(folder)
    text, null = prior.embed(["a red cube"]), prior.embed([""])
    x, t = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([0.5])
    v_text, v_null = prior.predict(x, t, text), prior.predict(x, t, null)
    found = guided(prior, x, t, text, null, 5.0)
    torch.testing.assert_close(found, v_null + 5 * (v_text - v_null), atol=1e-5, rtol=1e-4)


def test_latents_are_shifted_and_scaled(folder: Path, pipeline: StableDiffusion3Pipeline) -> None:
    prior = load_prior(folder)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(4), requires_grad=True)
    latents = prior.encode(images)
    with torch.no_grad():
        mean = pipeline.vae.encode(2 * images - 1).latent_dist.mean
    torch.testing.assert_close(latents.detach(), (mean - 0.0609) * 1.5305)
    decoded = pipeline.vae.decode(mean).sample / 2 + 0.5
    torch.testing.assert_close(
        prior.decode(latents.detach()), decoded.detach().clamp(0, 1), atol=1e-5, rtol=1e-4
    )
    latents.sum().backward()
    assert images.grad.abs().sum() > 0


def test_bfloat16_stays_close_to_float32(folder: Path) -> None:
    exact, half = load_prior(folder), load_prior(folder, dtype=torch.bfloat16)
    x, t = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(5)), torch.tensor([0.3, 0.8])
    v, v_half = (p.predict(x, t, p.embed(["a red cube", "blue"])) for p in (exact, half))
    assert v_half.dtype == torch.float32
    assert ((v - v_half).norm() / v.norm()).item() < 0.05


def test_sizes_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(UserError, match="72x64 pixels.*multiples of 16"):
        load_prior(folder).encode(torch.rand(1, 3, 64, 72))


def test_a_folder_with_a_part_missing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(UserError, match="incomplete model: the part"):
        load_prior(tmp_path)


def test_another_pipeline_class(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(UserError, match="is a KandinskyPipeline, which has no adapter"):
        load_prior(tmp_path)


def test_conditions_select_and_join() -> None:
    condition = Condition(torch.arange(6.0).reshape(3, 2, 1), torch.arange(3.0)[:, None])
    both = Condition.cat([condition[2], condition[0:1]])
    assert both.tokens[:, 0, 0].tolist() == [4.0, 0.0]
    assert both.pooled.flatten().tolist() == [2.0, 0.0]
    assert Condition.cat([Condition(torch.zeros(1, 1, 1))]).pooled is None


def test_unknown_words() -> None:
    class Knows:
        vocabulary = frozenset({"a", "red", "cube"})

    assert unknown_words(Knows(), "A red, zebra cube zebra!") == ["zebra"]
    Knows.vocabulary = None
    assert unknown_words(Knows(), "anything") == []
