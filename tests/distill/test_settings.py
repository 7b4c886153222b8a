"""The numbers that runs start from, against the tables of the documentation that says where each comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from rfgs.distill import DistillConfig
from rfgs.distill.recipes import DISTILLED, recipe
from rfgs.guidance import value_of
from rfgs.runs.job import BIG_QUALITIES, QUALITIES, Job
from rfgs.splats import HAZE, ball
from tests.distill.test_recipes import SD3, SD15, TINY, instaflow

DOCS = Path(__file__).parent.parent.parent / "docs"

RECIPE = {
    # docs/results.md#the-recipe, row l.
    "noise_range": (0.15, 0.98),
    "final_noise_range": (0.35, 0.75),
    "lr_means": 0.02,
    "lr_scales": 0.02,
    "lr_opacities": 0.2,
    "lr_colors": 0.12,
    "guidance_scale": 4,
    # docs/guidance.md#settings: the authors' inner step, ProlificDreamer's student.
    "inner_steps": 1,
    "inner_step_size": 1,
    "inner_optimizer": "gradient",
    "exact_inner_step": False,
    "renormalize_noise": False,
    "lora_rank": 4,
    "lora_steps": 1,
    "lr_lora": 1e-4,
    "time_weight": "uniform",
    # docs/guidance.md#what-holds-splats-back.
    "radius": 1.2,
    "opacity_weight": 0,
    "opaque_weight": 0,
    "opaque_after": 0.6,
    "scale_weight": 0,
    "anisotropy_weight": 0,
    "anisotropy_limit": 10,
    # What the embedded models were trained on, and the base of docs/results.md#ablations.
    "distance_range": (3.1, 3.3),
    "fov_range": (40, 40),
    "elevation_range": (-10, 45),
    "overhead_every": 5,
    "background": "grey",
    "resolution": 128,
    "first_resolution": 1,
    "lr_quats": 8e-3,
    "final_lr": 0.1,
    "smooth_views": False,
    "perp_neg": False,
    "prompt": None,
    "negative_prompt": "",
    "steps": 300,
    "views_per_step": 4,
    "guidance": "rfds-rev",
    # Growth, on which docs/results.md#a-smaller-start-and-growth was measured.
    "densify": "none",
    "splats": 3000,
    "start_radius": 0.7,
    "start_opacity": 0.1,
    "max_splats": 10_000,
    "densify_every": 25,
    "densify_range": (0.1, 0.7),
    "grow_gradient": 30,
    "grow_quantile": 0.95,
    "grow_snr": 0.5,
    "split_scale": 0.03,
    "prune_opacity": 0.005,
    "prune_scale": 0.5,
    "mcmc_growth": 0.05,
    "mcmc_noise": 80 / 8e-3,  # gsplat's 80, of the rate that centers had.
}


def test_defaults_are_those_that_were_measured() -> None:
    for config in (DistillConfig(), recipe(TINY, "sds")):
        assert {name: value_of(config, name) for name in RECIPE} == {**RECIPE, "guidance": config.guidance}


def row(page: str, title: str) -> str:
    """The second cell of a table's row that begins with a title."""
    (found,) = re.findall(rf"^\| {re.escape(title)} \| (.*?) \|", (DOCS / page).read_text(), re.MULTILINE)
    return found


def numbers(text: str) -> list[float]:
    """All numbers of a text in its order; 10,000 is one, and 0.06–0.98 are two."""
    found = re.findall(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text.replace("–", " "))
    return [float(number.replace(",", "")) for number in found]


def test_big_models_start_from_what_the_documentation_says() -> None:
    sd3, flow, sd = recipe(SD3), recipe(instaflow()), recipe(SD15, "sds")
    views = numbers(row("base-models.md", "views").replace("fifth", "5").split("pixels, ")[1])
    assert views == [*sd3.distance_range, *sd3.fov_range, *sd3.elevation_range, sd3.overhead_every]
    scales = numbers(re.sub(r"\(.*?\)", "", row("base-models.md", "guidance scale")))
    distilled = DISTILLED.splats["guidance_scale"]
    assert scales == [
        sd3.guidance_scale,
        distilled,
        sd.guidance_scale,
        recipe(SD15, "vsd").guidance_scale,
    ]
    assert flow.guidance_scale == sd3.guidance_scale
    assert [recipe(SD3, "rfds-vsd").guidance_scale, recipe(SD3, "rfds").guidance_scale] == [7.5, 50]
    assert row("base-models.md", "negative prompt").strip('"') == sd3.negative_prompt == sd.negative_prompt
    noise = numbers(re.sub(r"\(.*?\)", "", row("base-models.md", "noise")))
    expected = [*sd3.noise_range, *sd3.final_noise_range, *flow.final_noise_range, *sd.final_noise_range]
    assert noise == expected
    assert flow.noise_range == sd.noise_range == (0.02, 0.98)
    rates = row("base-models.md", "rates")
    assert rates.endswith("all fall to a tenth")
    for config in (sd3, flow, sd):
        mine = [config.lr_means, config.lr_quats, config.lr_scales, config.lr_opacities, config.lr_colors]
        assert numbers(rates) == mine and config.final_lr == 0.1
    (pull,) = numbers(row("base-models.md", "pull"))
    assert pull == sd3.scale_weight == sd.scale_weight
    every, begin, end, largest = numbers(row("base-models.md", "densification"))
    assert (every, begin / 100, end / 100) == (sd3.densify_every, *sd3.densify_range)
    assert largest / 100 == pytest.approx(1 - sd3.grow_quantile)
    assert (
        row("base-models.md", "loss").endswith("weighted by 1 - t") and value_of(sd3, "time_weight") == "1-t"
    )
    assert row("base-models.md", "background").startswith("any grey") and sd3.background == "grey"
    assert numbers(row("base-models.md", "bounds").split("]")[1]) == [sd3.radius]


def preset(steps: int, views: int, splats: int) -> dict[str, int | str]:
    return {"steps": steps, "views_per_step": views, "splats": splats, "densify": "quantile"}


def test_presets_are_those_of_the_documentation() -> None:
    text = row("base-models.md", "steps × views, splats at the start")
    cells = re.findall(r"([\d,]+) × (\d+), ([\d,]+) \((\w+)\)", text)
    told = {name: preset(*(int(n.replace(",", "")) for n in values)) for *values, name in cells}
    assert told == BIG_QUALITIES
    assert recipe(SD3).steps == recipe(SD15).steps == BIG_QUALITIES["normal"]["steps"]
    # docs/results.md: drafts of 110 steps, 4 views and 2,000 splats; whole runs of 420 steps and 3,000 splats.
    assert QUALITIES["draft"] == preset(110, 4, 2000)
    assert QUALITIES["normal"] == preset(420, 4, 3000)
    assert QUALITIES["high"] == preset(1500, 4, 6000)
    job = Job("x")
    assert job.preset() == QUALITIES["normal"]
    # A model is loaded as it is, unless asked otherwise (docs/base-models.md#memory).
    assert (job.t5, job.dtype, job.offload, job.compile) == ("keep", "auto", False, False)
    assert (job.model, job.settings, job.seed) == ("tiny-sd3", {}, 0)


def test_the_start_and_the_end_of_splats_are_those_of_the_documentation() -> None:
    radius, opacity = numbers(row("base-models.md", "start"))
    splats = ball(2000, radius, generator=torch.Generator().manual_seed(0))
    assert splats.opacities.unique().item() == pytest.approx(opacity)
    assert radius == 0.7
    # "Splats fainter than 0.05 are left out of the finished asset", guidance.md#what-holds-splats-back.
    assert HAZE == 0.05
