"""Settings that suit a prior: which recipe is taken, and what a guidance wants otherwise."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rfgs.distill.recipes import config_for, recipe
from rfgs.distill.settings import START_RADIUS
from rfgs.errors import UserError
from rfgs.flat.recipes import flowedit_recipe, inversion_recipe, ode_recipe, particle_recipe
from rfgs.guidance import Counted, guides, value_of
from rfgs.priors.base import Recipe
from rfgs.priors.instaflow import InstaFlowPrior
from rfgs.runs.job import BIG_QUALITIES, QUALITIES, QualityName
from rfgs.tinyworld.exact_prior import ExactPrior
from rfgs.tinyworld.pictures import draw_view

TINY = SimpleNamespace(kind="flow", vocabulary=frozenset({"red"}))
SD3 = SimpleNamespace(kind="flow", vocabulary=None, time_shift=3.0)
FLUX = SimpleNamespace(kind="flow", vocabulary=None, time_shift=1.9)
SD15 = SimpleNamespace(kind="diffusion", vocabulary=None)
EXACT = ExactPrior.__new__(ExactPrior)
EXACT.vocabulary = frozenset({"red"})


def instaflow() -> Any:
    prior = InstaFlowPrior.__new__(InstaFlowPrior)
    prior.vocabulary = None
    return prior


@pytest.mark.parametrize("make", [recipe, particle_recipe])
@pytest.mark.parametrize("guidance", guides())
def test_a_recipe_is_for_the_guidance_that_is_asked_for(make: Any, guidance: Any) -> None:
    for prior in (TINY, SD3, SD15, instaflow()):
        config = make(prior, guidance)
        assert config.guidance == guidance
        assert config.guidance_scale <= 7.5 or guidance not in ("vsd", "rfds-vsd")
    assert make(SD15, "sds").guidance_scale == 100 and make(SD3, "rfds").guidance_scale == 50


def test_embedded_models_have_the_scales_that_won_their_trials() -> None:
    tiny_instaflow = instaflow()
    tiny_instaflow.vocabulary = frozenset({"red"})
    scales = {guidance: recipe(TINY, guidance).guidance_scale for guidance in guides()}
    assert scales == {"sds": 4, "vsd": 2, "rfds": 8, "rfds-rev": 8, "rfds-vsd": 1.5}
    for guidance in ("rfds", "rfds-rev"):
        config = recipe(tiny_instaflow, guidance)
        assert (config.guidance_scale, config.final_guidance_scale) == (4, 2)


@pytest.mark.parametrize("guidance", ["rfds", "rfds-rev", "rfds-vsd"])
def test_embedded_flows_begin_with_much_noise_and_end_with_clear_alphas(guidance: str) -> None:
    config = recipe(TINY, guidance)
    assert (config.noise_range, config.final_noise_range) == ((0.95, 0.99), (0.3, 0.5))
    assert config.final_guidance_scale == (None if guidance == "rfds-vsd" else 4)
    assert (config.opaque_weight, config.opaque_after) == (1, 0.6)
    for big in (SD3, instaflow()):  # Nobody measured it for these.
        other = recipe(big, guidance)
        assert other.noise_range[0] < 0.2 and other.final_guidance_scale is None and not other.opaque_weight


def test_big_models_get_splats_where_gradients_are_high_until_the_run_settles() -> None:
    assert {quality["densify"] for quality in [*BIG_QUALITIES.values(), *QUALITIES.values()]} == {"quantile"}
    for prior in (SD3, SD15, instaflow()):
        config = recipe(prior)
        assert config.densify_range[1] <= 0.6 and config.densify_every == 100 and config.scale_weight > 0


@pytest.mark.parametrize(("quality", "every"), [("draft", 25), ("normal", 25), ("high", 90)])
def test_splats_grow_ten_times_at_most_in_runs_of_any_length(quality: QualityName, every: int) -> None:
    """A penguin at "high" that grew every 25 steps had an IoU of 0.60 and a cloud of dots; every 90 it has 0.87."""
    tiny = SimpleNamespace(kind="flow", vocabulary=frozenset({"red"}), image_size=128)
    config = config_for(tiny, "rfds", QUALITIES[quality])
    assert config.densify_every == every
    first, last = (round(share * config.steps) for share in config.densify_range)
    assert (last - first) / every <= 10.1
    assert config_for(tiny, "rfds", QUALITIES[quality], {"densify_every": 25}).densify_every == 25
    big = SimpleNamespace(**vars(SD3), image_size=512)
    assert config_for(big, "rfds", BIG_QUALITIES[quality]).densify_every == 100


def test_only_instaflow_takes_its_authors_inner_step() -> None:
    for make in (recipe, particle_recipe):
        assert [value_of(make(prior), "exact_inner_step") for prior in (TINY, SD3, SD15)] == [False] * 3
        assert value_of(make(instaflow()), "exact_inner_step")
        assert value_of(make(Counted(instaflow())), "exact_inner_step"), "a prior that somebody has wrapped"


def test_what_a_prior_says_of_itself_wins() -> None:
    own = Recipe({"guidance_scale": 3.0}, {"steps": 7}, {"strength": 0.5})
    prior = SimpleNamespace(kind="flow", vocabulary=None, recipe=own)
    assert recipe(prior).guidance_scale == 3.0 and recipe(prior).steps == recipe(SD3).steps
    assert particle_recipe(prior).steps == 7 and flowedit_recipe(prior).strength == 0.5
    with pytest.raises(UserError, match="guidance_size"):
        recipe(SimpleNamespace(kind="flow", vocabulary=None, recipe=Recipe({"guidance_size": 3.0})))


def test_guidance_has_nothing_to_add_to_an_exact_prior_but_choices_among_views() -> None:
    for guidance in ("rfds", "rfds-rev"):
        config = recipe(EXACT, guidance)
        assert (config.guidance_scale, config.final_guidance_scale) == (2.0, 1.0)
        assert particle_recipe(EXACT, guidance).guidance_scale == 1.0
    assert flowedit_recipe(EXACT).target_scale == 1.0


def test_models_with_guidance_baked_in_want_none() -> None:
    """Whatever else they say of themselves, which stays."""
    own = Recipe(splats={"guidance_scale": 50.0, "steps": 7}, edits={"target_scale": 8.0, "averages": 2})
    prior = SimpleNamespace(kind="flow", vocabulary=None, distilled=True, recipe=own)
    for make in (recipe, particle_recipe):
        assert make(prior, "rfds").guidance_scale == 1 and make(SD3, "rfds").guidance_scale == 50
    edit = flowedit_recipe(prior)
    assert (edit.source_scale, edit.target_scale, edit.averages) == (1, 1, 2) and recipe(prior).steps == 7


def test_big_and_embedded_priors_differ_in_2d() -> None:
    assert particle_recipe(TINY).steps < particle_recipe(SD3).steps
    assert inversion_recipe(TINY).steps < inversion_recipe(SD3).steps
    for make in (ode_recipe, flowedit_recipe):
        # Each model's own: FLUX leans further than InstaFlow, and not as far as SD3.
        assert [make(prior).shift for prior in (TINY, SD3, FLUX, instaflow())] == [1.0, 3.0, 1.9, 1.0]
    assert flowedit_recipe(TINY).target_scale < flowedit_recipe(SD3).target_scale


def test_big_models_see_the_object_from_near_and_far_and_small_ones_as_they_were_trained() -> None:
    for prior in (SD3, SD15, instaflow()):
        config = recipe(prior)
        assert config.distance_range == (2.5, 4.0) and config.fov_range == (40.0, 70.0)
        # The start, a ball of radius 0.7, is whole in every view.
        nearest, narrowest = config.distance_range[0], config.fov_range[0]
        assert nearest * math.sin(math.radians(narrowest / 2)) > START_RADIUS
    rng = np.random.default_rng(0)
    seen = [draw_view(rng)[2] for _ in range(1000)]
    low, high = recipe(TINY).distance_range
    assert min(seen) == pytest.approx(low, abs=1e-2) and max(seen) == pytest.approx(high, abs=1e-2)
    assert recipe(TINY).fov_range == (40.0, 40.0)


def test_noisy_views_weigh_less_where_guidance_is_much() -> None:
    assert [value_of(recipe(prior), "time_weight") for prior in (SD3, TINY)] == ["1-t", "uniform"]


def test_times_and_view_words_of_big_models() -> None:
    """The authors' times for SD3, even ones for InstaFlow and diffusion models; words that do not switch for all of them."""
    assert [recipe(prior).noise_shift for prior in (SD3, FLUX, instaflow(), SD15, TINY)] == [3, 3, 1, 1, 1]
    assert [recipe(prior).smooth_views for prior in (SD3, SD15, TINY)] == [True, True, False]
