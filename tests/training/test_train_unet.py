"""The way from tiny-sd3's parts to tiny-sd and on to tiny-instaflow at a scale of seconds, with a smaller UNet."""

from __future__ import annotations

import json
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

from rfgs.priors import load_prior
from rfgs.priors.base import guided
from training import data, latents, train, train_unet, unet
from training.text import MAX_TOKENS
from training.vae import random_crops

START = Path(str(files("rfgs.assets"))) / "tiny-sd3"


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=16,
        out_channels=16,
        layers_per_block=1,
        block_out_channels=(16,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        attention_head_dim=2,
        cross_attention_dim=96,
        norm_num_groups=8,
    )


def call(folder: Path, model: str, start: Path, *more: str) -> Path:
    target = folder / f"tiny-{model}"
    places = ["--work", str(folder / "work"), "--start", str(start), "--target", str(target)]
    options = ["--images", "24", "--minutes", "0.0001", "--batch", "2", *more]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SHARD", 12)
        patch.setattr(latents, "_CHECK", 8)
        # As in test_train.py: rendered in this process, and the decoder measured on 4 pictures.
        patch.setattr(train, "render_dataset", partial(data.render_dataset, workers=1))
        patch.setattr(train, "random_crops", lambda shards, count, *rest: random_crops(shards, 4, *rest))
        patch.setattr(train_unet, "CHUNK", 4)
        patch.setattr(unet, "new_unet", small_unet)
        patch.setattr("sys.argv", ["train_unet", model, *places, *options])
        train_unet.main()
    return target


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("unets")
    sd = call(folder, "sd", START)
    flow = call(folder, "instaflow", sd, "--pairs", "8", "--pair-steps", "2", "--reflow-minutes", "0.0001")
    return {"work": folder / "work", "sd": sd, "instaflow": flow}


def test_both_say_how_they_were_made(made: dict[str, Path]) -> None:
    sd = json.loads((made["sd"] / "training.json").read_text())
    assert sd["samples"] == 2 * sd["steps"] > 0 and sd["started_from"] == json.loads(
        (START / "training.json").read_text()
    )
    assert list(sd["noise_loss"]) == ["0.10", "0.30", "0.50", "0.70", "0.90", "0.98"]
    flow = json.loads((made["instaflow"] / "training.json").read_text())
    assert flow["started_from"] == sd and flow["arguments"]["pairs"] == "8"
    assert flow["rectified"]["samples"] > 0 and flow["reflowed"]["samples"] > 0


def test_tiny_sd_is_what_was_trained_and_diffusers_own_pipeline_draws_the_same(made: dict[str, Path]) -> None:
    prior = load_prior(made["sd"], "diffusion")
    tokenizer = CLIPTokenizer.from_pretrained(made["sd"] / "tokenizer")
    x_t = torch.randn(2, *unet.SHAPE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.9])
    prompts = ["a red cube, front view", ""]
    ids = torch.tensor(tokenizer(prompts, padding="max_length", max_length=MAX_TOKENS).input_ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "new_unet", small_unet)
        model = unet.load_average(made["work"] / "sd.pt", tokenizer)
    with torch.no_grad():
        expected = model(x_t, 1000 * t, ids)
    torch.testing.assert_close(prior.predict(x_t, t, prior.embed(prompts)), expected, atol=5e-3, rtol=1e-2)
    pipeline = StableDiffusionPipeline.from_pretrained(
        made["sd"], torch_dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, DDIMScheduler)

    def options() -> dict:
        return {"guidance_scale": 3.0, "generator": torch.Generator().manual_seed(1)}

    ours = prior.sample(prior.embed(["a red cube"]), prior.embed([""]), steps=3, **options())
    theirs = pipeline("a red cube", num_inference_steps=3, output_type="pt", **options()).images
    assert ours.shape == (1, 3, 128, 128) and ours.std() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_tiny_instaflow_is_a_flow_whose_velocity_is_noise_minus_data(made: dict[str, Path]) -> None:
    prior = load_prior(made["instaflow"])
    assert prior.kind == "flow"
    network = UNet2DConditionModel.from_pretrained(made["instaflow"] / "unet").float()
    x_t = torch.randn(2, *unet.SHAPE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.3, 0.6])
    condition = prior.embed(["a red cube", ""])
    with torch.no_grad():
        u = network(x_t, 1000 * t, condition.tokens).sample
    torch.testing.assert_close(prior.predict(x_t, t, condition), -u, atol=1e-4, rtol=1e-3)
    StableDiffusionPipeline.from_pretrained(made["instaflow"], safety_checker=None)


def test_the_reflow_begins_with_the_rectified_flow_and_its_pairs_are_made_once(made: dict[str, Path]) -> None:
    work = made["work"]
    parts = sorted((work / "pairs").glob("*.pt"))
    assert [part.name for part in parts] == ["0000.pt", "0001.pt"]
    one, two = (torch.load(part, weights_only=True) for part in parts)
    assert one["made"].shape == (4, *unet.SHAPE) and not torch.equal(one["noise"], two["noise"])
    stamps = [part.stat().st_mtime_ns for part in parts]
    steps = torch.load(work / "reflowed.pt", weights_only=True)["step"]
    call(work.parent, "instaflow", made["sd"], "--pairs", "8", "--reflow-minutes", "0.0001")
    assert stamps == [part.stat().st_mtime_ns for part in parts]
    assert torch.load(work / "reflowed.pt", weights_only=True)["step"] > steps
    # Before the reflow it can be loaded too, to compare.
    assert load_prior(work / "one-rectified").kind == "flow"


def test_a_teacher_draws_the_pairs_and_there_is_no_flow_before(made: dict[str, Path], tmp_path: Path) -> None:
    more = ["--teacher", str(START), "--pairs", "4", "--pair-steps", "3", "--reflow-minutes", "0.0001"]
    (tmp_path / "work").mkdir()
    for name in ("data", "latents.pt", "vae.pt", "tokenizer"):
        (tmp_path / "work" / name).symlink_to(made["work"] / name)
    flow = json.loads((call(tmp_path, "instaflow", made["sd"], *more) / "training.json").read_text())
    assert flow["arguments"]["teacher"] == str(START) and "rectified" not in flow
    assert not (tmp_path / "work" / "rectified.pt").exists()
    pair = torch.load(tmp_path / "work" / "pairs" / "0000.pt", weights_only=True)
    # As the teacher's own sampler draws it.
    teacher = load_prior(START, engine="torch")
    tokenizer = CLIPTokenizer.from_pretrained(made["work"] / "tokenizer")
    texts = tokenizer.batch_decode(pair["ids"], skip_special_tokens=True)
    again = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS).input_ids
    assert torch.equal(torch.tensor(again), pair["ids"])
    x, text, null = pair["noise"].float(), teacher.embed(texts), teacher.embed([""] * 4)
    for t in (1.0, 2 / 3, 1 / 3):
        x = x - guided(teacher, x, torch.full((4,), t), text, null, 1.5) / 3
    torch.testing.assert_close(pair["made"].float(), x, atol=5e-3, rtol=5e-3)
