"""Images optimized under a prior whose most likely image is known."""

from __future__ import annotations

import pytest
import torch

from rfgs.errors import UserError
from rfgs.flat.particles import ParticleConfig, ParticleStep, optimize
from rfgs.priors.base import Condition
from tests.flat.flat_prior import FlatPrior


def run(seed: int = 0, **settings) -> list[ParticleStep]:
    config = ParticleConfig(**{"steps": 150, "guidance_scale": 1.0, "particles": 2, **settings})
    return list(optimize("light", FlatPrior(), config, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("guidance", ["rfds", "rfds-rev"])
@pytest.mark.parametrize("space", ["latents", "pixels"])
def test_images_become_what_the_prompt_says(guidance: str, space: str) -> None:
    first, *_, last = run(guidance=guidance, space=space, lr_pixels=0.03)
    images = last.images()
    assert images.shape == (2, 3, 32, 32) and 0 <= images.min() and images.max() <= 1
    # The mean of the prompt's Gaussian, 0.5 in latents.
    assert images.mean().item() == pytest.approx(0.75, abs=0.04)
    assert first.latents.mean().item() == pytest.approx(0, abs=0.05)
    assert (first.index, last.index, last.total) == (1, 150, 150)


def test_a_scale_of_guidance_goes_beyond_the_mean() -> None:
    *_, last = run(guidance="rfds", guidance_scale=1.6, lr_latents=0.05)
    assert last.latents.mean().item() == pytest.approx(0.8, abs=0.06)


def test_the_start_is_the_papers() -> None:
    (first,) = run(steps=1, particles=64)
    assert first.latents.std().item() == pytest.approx((1 / 12) ** 0.5, rel=0.03)  # sqrt(1/3 / 4)


def test_the_same_seed_is_the_same_image() -> None:
    one, same, other = (run(seed, steps=3)[-1].images() for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_settings_may_change_while_it_runs() -> None:
    config = ParticleConfig(steps=3, guidance="rfds", particles=1, guidance_scale=1.0)
    steps = optimize("light", FlatPrior(), config, generator=torch.Generator().manual_seed(0))
    next(steps)
    before = next(steps).images()
    config.lr_latents = 0.0
    assert torch.equal(next(steps).images(), before)


@pytest.mark.parametrize("space", ["latents", "pixels"])
def test_what_is_not_finite_is_skipped_and_counted(space) -> None:
    class Overflowing(FlatPrior):
        def predict(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
            v = super().predict(x_t, t, condition)
            if len(seen) == 2:
                v[0, 0, 3, 4] = torch.inf
            return v

    seen: list[ParticleStep] = []
    config = ParticleConfig(steps=150, guidance="rfds", guidance_scale=1.5, space=space, lr_pixels=0.03)
    for step in optimize("light", Overflowing(), config, generator=torch.Generator().manual_seed(0)):
        seen.append(step)
    assert [step.index for step in seen if step.skipped] == [3]
    assert seen[-1].images().isfinite().all() and seen[-1].images().mean() > 0.7


def test_the_number_of_steps_may_change_on_the_way() -> None:
    config = ParticleConfig(steps=3, guidance="rfds", particles=1, guidance_scale=1.0)
    steps = optimize("light", FlatPrior(), config, generator=torch.Generator().manual_seed(0))
    next(steps)
    config.steps = 5
    *_, last = steps
    assert (last.index, last.total) == (5, 5)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"particles": 0}, "0 particles"),
        ({"space": "words"}, "'words'"),
        ({"guidance": "sds"}, "guidance sds: .*flat is a rectified flow"),
    ],
)
def test_settings_that_cannot_be(settings: dict, match: str) -> None:
    with pytest.raises(UserError, match=match):
        run(**settings)
