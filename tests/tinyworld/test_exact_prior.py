"""The exact prior: its answers about pictures that it has, open and empty prompts, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rfgs.cli.main import main
from rfgs.distill import DistillConfig
from rfgs.distill.recipes import recipe
from rfgs.distill.view_prompts import mixed
from rfgs.errors import UserError
from rfgs.flat.recipes import flowedit_recipe, particle_recipe
from rfgs.models.available import find_model, overview
from rfgs.models.catalog import find_backend, is_small, source_of
from rfgs.models.kind import kind_of
from rfgs.priors import load_prior
from rfgs.priors.base import Condition
from rfgs.runs.methods import check_pair
from rfgs.tinyworld import exact_prior as module
from rfgs.tinyworld.album import Grid
from rfgs.tinyworld.exact_prior import ExactPrior
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.shapes import cameras_at, rows_at, traced

SMALL = Grid(azimuths=8, elevations=(10, 70), fractions=(0.5,))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("RFGS_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(module, "EVERYTHING", 20)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def prior() -> ExactPrior:
    loaded = load_prior("tiny-exact")
    loaded.grid = SMALL
    return loaded


def picture(prompt: str, view: tuple[float, float], grey: float) -> torch.Tensor:
    """[1, 3, 128, 128]."""
    scene = parse(prompt).looks()[0]
    layers = traced(rows_at(scene, 0.5), cameras_at([view], 128), 1)
    rgb = layers[..., :4] @ thing_colors(scene) + layers[..., 4:7] + grey * (1 - layers[..., 7:])
    return torch.from_numpy(rgb).permute(0, 3, 1, 2)


def x0(prior: ExactPrior, x: torch.Tensor, t: float, prompt: str | Condition, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    x_t = (1 - t) * x + t * noise
    condition = prior.embed([prompt]) if isinstance(prompt, str) else prompt
    return x_t - t * prior.predict(x_t, torch.tensor([t]), condition)


def test_it_finds_a_picture_that_it_has_under_noise(prior: ExactPrior) -> None:
    view = SMALL.views()[2]
    x = prior.encode(picture("a red mug", view, 0.3))
    for prompt in ("a red mug", "a mug", "a red mug, left side view", "mug, left side view"):
        assert (x0(prior, x, 0.3, prompt) - x).square().mean() < 1e-3
    assert (x0(prior, x, 0.3, "a red mug, back view") - x).square().mean() > 0.05
    assert (x0(prior, x, 0.3, "a blue mug") - x).square().mean() > 0.05


def test_all_noise_is_the_mean_of_all(prior: ExactPrior) -> None:
    x = torch.zeros(1, 16, 16, 16)
    looks = [
        x0(prior, x, 1.0, f"a {color} sphere, front view") for color in ("red", "green", "blue", "yellow")
    ]
    looks += [
        x0(prior, x, 1.0, f"a {color} ball, front view") for color in ("orange", "purple", "white", "black")
    ]
    torch.testing.assert_close(
        x0(prior, x, 1.0, "a sphere, front view"), torch.stack(looks).mean(0), atol=1e-3, rtol=1e-3
    )


def test_mixed_conditions_are_mixtures_of_sides(prior: ExactPrior) -> None:
    x = torch.zeros(1, 16, 16, 16)
    views = prior.embed(["a red mug, front view", "a red mug, left side view"])
    half = mixed(views, torch.tensor([[0.25, 0.75]]))
    one, other = (x0(prior, x, 1.0, views[i]) for i in range(2))
    torch.testing.assert_close(x0(prior, x, 1.0, half), 0.25 * one + 0.75 * other, atol=1e-3, rtol=1e-3)


def test_the_empty_prompt_is_a_sample_of_the_world(prior: ExactPrior) -> None:
    blocks = prior.pictures("")
    assert sum(len(block.words) for block in blocks) == 20
    x = (
        blocks[0]
        .mean(
            torch.eye(len(blocks[0].words))[3, None, :, None].double() * torch.eye(module.LOOKS)[0].double(),
            torch.full((1, 1, 1), 0.6).double(),
            blocks[0].rows(None),
        )
        .reshape(1, 16, 16, 16)
    )
    assert (x0(prior, x, 0.2, "") - x).square().mean() < 1e-3


def test_samples_are_pictures_of_the_prompt(prior: ExactPrior) -> None:
    conditions = prior.embed(["a red sphere, front view"] * 2)
    images = prior.sample(
        conditions,
        prior.embed(["", ""]),
        steps=8,
        guidance_scale=1,
        generator=torch.Generator().manual_seed(0),
    )
    assert images.shape == (2, 3, 128, 128)
    red, green, blue = images[:, :, 56:72, 56:72].mean((2, 3)).unbind(1)
    assert (red > green + 0.3).all() and (red > blue + 0.3).all()


def test_what_it_does_not_know_is_named(prior: ExactPrior) -> None:
    with pytest.raises(UserError, match="'zebra': is nothing that tiny-exact knows"):
        prior.embed(["a red zebra, front view"])
    with pytest.raises(UserError, match="has pictures of 128x128 pixels only"):
        prior.predict(torch.zeros(1, 16, 8, 8), torch.ones(1), prior.embed(["a mug"]))


def test_it_is_a_backend_like_others() -> None:
    assert find_model(find_backend("tiny-exact")) == "tiny-exact" and is_small("tiny-exact")
    assert dict(overview(gpu=False))["tiny-exact"] == "ready"
    assert kind_of("tiny-exact") == "flow"
    check_pair("rfds-rev", "tiny-exact")
    with pytest.raises(UserError, match="--guidance rfds-vsd: trains a LoRA .* tiny-exact has none"):
        check_pair("rfds-vsd", "tiny-exact")
    with pytest.raises(UserError, match="--model here: tiny-exact has no weights"):
        source_of(find_backend("tiny-exact"), "here")


def test_its_pictures_need_no_guidance(prior: ExactPrior) -> None:
    assert particle_recipe(prior).guidance_scale == 1 and flowedit_recipe(prior).target_scale == 1
    assert DistillConfig().guidance_scale != 1


def test_the_commands_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "Grid", lambda: SMALL)
    flags = ["--backend", "tiny-exact", "--steps", "2"]
    folder = tmp_path / "made"
    main(["generate", "a cactus", *flags, "--splats", "50", "--no-viewer", "--output", str(folder)])
    assert (folder / "splats.ply").is_file()
    main(["image", "a cactus", *flags, "--particles", "1", "--output", str(tmp_path / "image")])
    photo = str(tmp_path / "image" / "image.png")
    main(["invert", photo, "--prompt", "a cactus", *flags, "--output", str(tmp_path / "invert")])
    words = ["--from", "a cactus", "--to", "a red cactus"]
    main(["edit", photo, *words, *flags, "--output", str(tmp_path / "edit")])
    assert (tmp_path / "invert" / "run.json").is_file() and (tmp_path / "edit" / "image.png").is_file()
    for refused, flag in ((["--compile"], "--compile"), (["--guidance", "rfds-vsd"], "--guidance rfds-vsd")):
        with pytest.raises(SystemExit):
            main(["generate", "a cactus", *flags, *refused, "--output", str(tmp_path / "none")])
        assert flag in capsys.readouterr().err


def test_its_runs_stay_where_views_are_open_and_settle_late(prior: ExactPrior) -> None:
    for guidance in ("rfds", "rfds-rev"):
        config = recipe(prior, guidance)
        assert (config.noise_range, config.final_noise_range) == ((0.95, 0.99), (0.5, 0.6))
        assert (config.noise_curve, config.guidance_scale, config.final_guidance_scale) == (2, 2, 1)
        assert (config.opaque_weight, config.opaque_after) == (1, 0.6)
