"""The whole training at a scale of seconds, and the folder it leaves: ours and diffusers' to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from transformers import CLIPTokenizer

from rfgs.priors import load_prior, unknown_words
from rfgs.tinyworld.language import vocabulary
from training import data, latents, train, vae
from training.prior import TinySD3
from training.text import MAX_TOKENS
from training.vae import random_crops


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Shards of 12 pictures that are rendered in this process, and decoders that see 4 of them at most."""

    def few(shards: list, count: int, size: int, rng: np.random.Generator) -> torch.Tensor:
        return random_crops(shards, min(count, 4), size, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SHARD", 12)
        patch.setattr(latents, "_CHECK", 8)
        # Processes that render begin with imports, which take ten times as long; see test_data.py for them.
        patch.setattr(train, "render_dataset", partial(data.render_dataset, workers=1))
        for module in (train, vae):
            patch.setattr(module, "random_crops", few)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `main` has made `model` from `work`, with 24 pictures and as few steps as time allows."""
    folder = tmp_path_factory.mktemp("run")
    arguments = ["--images", "24", "--vae-minutes", "0.001", "--prior-minutes", "0.001", "--batch", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv",
            ["train", "--work", str(folder / "work"), "--target", str(folder / "model"), *arguments],
        )
        decoder_options = {"batch": 2, "crop": 32}
        original = train.train_decoder
        patch.setattr(train, "train_decoder", lambda *args, **kw: original(*args, **kw, **decoder_options))
        train.main()
    return folder


def test_every_stage_leaves_its_files(run: Path) -> None:
    names = {path.name for path in (run / "work").iterdir()}
    assert names == {"data", "vae.pt", "vae.jsonl", "latents.pt", "tokenizer", "prior.pt", "prior.jsonl"}
    parts = {path.name for path in (run / "model").iterdir()}
    assert parts == {
        *("model_index.json", "rfgs.json", "training.json", "scheduler", "transformer", "vae"),
        *("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
    }
    index = json.loads((run / "model" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusion3Pipeline"


def test_training_json_says_how_the_model_was_made_and_what_it_measures(run: Path) -> None:
    training = json.loads((run / "model" / "training.json").read_text())
    assert training["arguments"]["images"] == "24" and training["arguments"]["batch"] == "2"
    assert training["samples"] == 2 * training["steps"] > 0
    assert 0 < training["vae_psnr_db"] < 60
    assert list(training["flow_loss"]) == ["0.10", "0.30", "0.50", "0.70", "0.90", "0.98"]
    assert str(run) not in json.dumps(training)


def test_stored_latents_are_normalized_and_are_what_the_prior_encodes_over_any_grey(run: Path) -> None:
    stored = latents.load_latents(run / "work", CLIPTokenizer.from_pretrained(run / "work" / "tokenizer"))
    assert stored.parts.shape == (24, latents.PARTS, 16, 16, 16) and stored.parts.dtype == torch.float16
    colors = torch.from_numpy(np.stack([data.thing_colors(scene) for scene in stored.draws.scenes]))
    objects, backdrops = stored.shown(torch.arange(24), colors)
    shards = data.open_shards(run / "work" / "data")
    pixels = torch.from_numpy(np.concatenate([shard[:] for shard in shards]).astype(np.float32))
    rgba = pixels.movedim(-1, 1) / 255
    prior = load_prior(run / "model")
    over_greys = []
    for grey in (0.0, 0.4, 1.0):
        pictures = (rgba[:, :3] + (1 - rgba[:, 3:]) * grey).clamp(0, 1)
        over_greys.append(objects + grey * backdrops)
        # The stage stores float16, and so does the export.
        assert (prior.encode(pictures) - over_greys[-1]).square().mean().sqrt() < 0.01
    # Fitted on pictures over random greys: their latents have mean 0 and a mean variance of 1.
    encoded = torch.cat(over_greys)
    assert encoded.mean().item() == pytest.approx(0, abs=0.1)
    assert encoded.var(dim=(0, 2, 3)).mean().item() == pytest.approx(1, abs=0.4)


def test_the_exported_prior_is_the_trained_average(run: Path) -> None:
    prior = load_prior(run / "model")
    tokenizer = CLIPTokenizer.from_pretrained(run / "model" / "tokenizer")
    model: TinySD3 = train.load_average(run / "work" / "prior.pt", tokenizer)
    x_t, t = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.9])
    prompts = ["a red cube on a blue cone, front view", ""]
    ids = torch.tensor(tokenizer(prompts, padding="max_length", max_length=MAX_TOKENS).input_ids)
    with torch.no_grad():
        expected = model(x_t, t, ids)
    condition = prior.embed(prompts)
    assert condition.tokens.shape == (2, MAX_TOKENS, 192)  # No zeros in T5's place.
    torch.testing.assert_close(prior.predict(x_t, t, condition), expected, atol=5e-3, rtol=1e-2)
    assert prior.vocabulary == set(vocabulary())
    assert unknown_words(prior, "a red unicorn, side view") == ["unicorn"]


def test_diffusers_own_pipeline_draws_the_same_picture(run: Path) -> None:
    prior = load_prior(run / "model")
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        run / "model", text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    assert prior.image_size == 128
    options = {"guidance_scale": 3.0}
    ours = prior.sample(
        prior.embed(["a red cube"]),
        prior.embed([""]),
        steps=2,
        generator=torch.Generator().manual_seed(1),
        **options,
    )
    theirs = pipeline(
        "a red cube",
        num_inference_steps=2,
        height=128,
        width=128,
        max_sequence_length=0,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
        **options,
    ).images
    assert ours.shape == (1, 3, 128, 128) and ours.std() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_same_command_again_renders_and_encodes_nothing_and_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = run / "work"
    kept = {
        path: path.stat().st_mtime_ns
        # The tokenizer too: its ids are part of the weights.
        for path in [*(work / "data").iterdir(), *(work / "tokenizer").iterdir(), work / "latents.pt"]
    }
    trained = torch.load(work / "vae.pt", weights_only=True)["vae"]
    steps = torch.load(work / "prior.pt", weights_only=True)["step"]
    arguments = ["--images", "24", "--vae-minutes", "0.001", "--prior-minutes", "0.001", "--batch", "2"]
    monkeypatch.setattr("sys.argv", ["train", "--work", str(work), *arguments])
    train.main()
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert torch.load(work / "prior.pt", weights_only=True)["step"] > steps
    # The decoder's time is up: its learning rate is 0, and nothing moves.
    again = torch.load(work / "vae.pt", weights_only=True)["vae"]
    assert all(torch.equal(value, again[name]) for name, value in trained.items())


def test_a_training_that_starts_from_a_model_keeps_its_words_autoencoder_and_weights(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--images", "24", "--prior-minutes", "0.0001", "--batch", "2", "--rate", "0", "--seed", "5"]
    places = [
        "--work",
        str(tmp_path / "work"),
        "--target",
        str(tmp_path / "model"),
        "--start",
        str(run / "model"),
    ]
    monkeypatch.setattr("sys.argv", ["train", *places, *arguments])
    train.main()
    old, new = load_prior(run / "model"), load_prior(tmp_path / "model")
    assert (run / "model/tokenizer/tokenizer.json").read_bytes() == (
        tmp_path / "model/tokenizer/tokenizer.json"
    ).read_bytes()
    x, t = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.8])
    z = old.encode(x)
    torch.testing.assert_close(new.encode(x), z)
    torch.testing.assert_close(new.decode(z), old.decode(z))
    # At a learning rate of 0 nothing moves.
    prompts = ["a red cube", ""]
    torch.testing.assert_close(new.predict(z, t, new.embed(prompts)), old.predict(z, t, old.embed(prompts)))
    stored = torch.load(tmp_path / "work" / "latents.pt", weights_only=True)
    assert old.autoencoder.linear is not None
    torch.testing.assert_close(stored["kernel"], old.autoencoder.linear[0])
    told = json.loads((tmp_path / "model" / "training.json").read_text())
    assert told["started_from"] == json.loads((run / "model" / "training.json").read_text())
