"""The model that ships: it is whole, small, knows colors, places and views, and a short run makes the right asset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rfgs.distill import distill
from rfgs.distill.recipes import recipe
from rfgs.distill.settings import START_RADIUS
from rfgs.models.catalog import BACKENDS, embedded_folder
from rfgs.priors import Prior, load_prior, unknown_words
from rfgs.render import render
from rfgs.render.cameras import orbit
from rfgs.splats import ball, without_haze
from rfgs.tinyworld.scenes import COLORS

FOLDER = embedded_folder(BACKENDS[0])


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior("tiny-sd3")


def nearest_color(pixels: Tensor) -> str:
    """The world's color whose hue is nearest to the mean of pixels [3, ...], whatever the light on it."""
    mean = pixels.flatten(1).mean(1)
    names = [name for name in COLORS if name not in ("white", "black")]
    directions = torch.tensor([COLORS[name] for name in names])
    similarity = torch.nn.functional.cosine_similarity(directions, mean[None])
    return names[int(similarity.argmax())]


def sample(prior: Prior, prompts: list[str]) -> Tensor:
    return prior.sample(
        prior.embed(prompts),
        prior.embed([""] * len(prompts)),
        steps=10,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(0),
    )


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert sum(path.stat().st_size for path in Path(FOLDER).rglob("*")) < 20e6
    training = json.loads((FOLDER / "training.json").read_text())
    assert training["vae_psnr_db"] > 30
    assert training["flow_loss"]["0.50"] < 0.16


def test_it_knows_its_words(prior: Prior) -> None:
    assert unknown_words(prior, "A dotted red donut next to an orange teddy bear, in snow") == []
    assert unknown_words(prior, "a rocking horse") == ["rocking", "horse"]


def test_samples_have_the_color_that_was_asked_for(prior: Prior) -> None:
    names = [name for name in COLORS if name not in ("white", "black")]
    images = sample(prior, [f"a {name} sphere, front view" for name in names])
    seen = [nearest_color(image[:, 48:80, 48:80]) for image in images]
    assert seen == names


def test_samples_put_things_where_they_belong(prior: Prior) -> None:
    images = sample(
        prior,
        ["a red cube on a blue cylinder, front view", "a green sphere next to a red sphere, front view"],
    )
    assert nearest_color(images[0][:, 24:56, 52:76]) == "red"
    assert nearest_color(images[0][:, 72:104, 52:76]) == "blue"
    assert nearest_color(images[1][:, 56:80, 24:52]) == "green"
    assert nearest_color(images[1][:, 56:80, 76:104]) == "red"


@pytest.mark.parametrize("guidance", ["rfds", "rfds-rev"])
def test_a_short_run_makes_the_asset(prior: Prior, guidance) -> None:
    config = recipe(prior)
    config.steps, config.guidance = 36, guidance
    generator = torch.Generator().manual_seed(0)
    splats = ball(1200, START_RADIUS, generator=generator)
    for step in distill("a red cube on a blue cylinder", prior, splats, config, generator=generator):
        splats = step.splats
    cameras = orbit([0, 90, 180], 10, 3.2, 40, 128, 128)
    with torch.no_grad():
        frames = render(without_haze(splats), cameras)
    for rgb, alpha in zip(frames.rgb, frames.alpha, strict=True):
        assert nearest_color(rgb[:, 28:54, 52:76]) == "red"
        assert nearest_color(rgb[:, 74:100, 52:76]) == "blue"
        assert alpha[0, 32:96, 56:72].mean() > 0.6
        # A start of radius 0.7 reaches there, and the stack does not: no haze is left at its sides.
        sides = torch.cat([alpha[0, :, :24].flatten(), alpha[0, :, -24:].flatten()])
        assert sides.mean() < 0.02
