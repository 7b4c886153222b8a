"""Densification against what gsplat watches on the same views, and against what it promises: bounds, and resuming."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rfgs.distill import DistillConfig, Step, densify, distill
from rfgs.distill.densify import DensifyConfig, Growth
from rfgs.errors import UserError
from rfgs.priors.flow import Flow
from rfgs.render import render
from rfgs.render.cameras import orbit
from rfgs.splats import ball
from tests.distill.some_splats import N, learned, some_splats


def test_what_gsplat_watches_is_what_is_watched() -> None:
    strategy = importlib.import_module("gsplat.strategy").DefaultStrategy(absgrad=True)
    splats = some_splats().requires_grad_()
    # Not square, so that width and height cannot be mistaken for each other.
    cameras = orbit(torch.tensor([0.0, 90.0]), torch.tensor([0.0, 30.0]), 3.0, 40.0, 64, 40)
    growth, state = Growth(), strategy.initialize_state()
    for weight in (1.0, 2.0):
        frames = render(splats, cameras, torch.ones(3), absgrad=True)
        (weight * frames.rgb.square().mean()).backward()
        densify.watch(growth, frames)
        strategy._update_state(splats.parameters(), state, {**frames.info, "gaussian_ids": None})
    assert state["grad2d"].min() > 0
    torch.testing.assert_close(growth.grad2d, state["grad2d"])
    torch.testing.assert_close(growth.count, state["count"])


def test_growth_is_where_gradients_are_highest_and_within_the_bound() -> None:
    splats = some_splats().requires_grad_()
    gradients = torch.arange(N).float()
    config = DensifyConfig(
        "threshold", max_splats=N + 3, grow_gradient=4.5, split_scale=math.inf, prune_opacity=0
    )
    after = densify.gradient_round(splats, learned(splats), gradients, config, torch.Generator())
    assert len(after) == N + 3
    assert torch.equal(after.means[N:], splats.means[N - 3 :])
    few = replace(config, max_splats=1000)
    assert len(densify.gradient_round(splats, learned(splats), gradients, few, torch.Generator())) == N + 7
    full = replace(config, max_splats=N - 5)
    assert len(densify.gradient_round(splats, learned(splats), gradients, full, torch.Generator())) == N


def test_a_quantile_does_not_know_the_scale_of_the_loss() -> None:
    config = DensifyConfig("quantile", grow_quantile=0.75, prune_opacity=0)
    sizes = set()
    for scale in (1e-9, 1e9):
        splats = some_splats().requires_grad_()
        gradients = scale * torch.arange(N).float()
        sizes.add(len(densify.gradient_round(splats, learned(splats), gradients, config, torch.Generator())))
    assert sizes == {N + 3}


def test_steady_gradients_are_the_mean_over_time_where_it_is_not_noise() -> None:
    """Against plain sums over 60 gradients: the first splat's are all alike, the second's turn round every step."""
    generator = torch.Generator().manual_seed(4)
    means = torch.zeros(2, 3, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [means]}], lr=1e-3, betas=(0.9, 0.99))
    seen = []
    for step in range(60):
        gradient = torch.randn(1, 3, generator=generator) * torch.tensor([[0.1], [1.0]])
        gradient[0] += torch.tensor([1.0, -2.0, 0.5])
        gradient[1] *= (-1) ** step
        means.grad = gradient
        optimizer.step()
        seen.append(gradient.clone())

    def mean_over_time(values: list[Tensor], beta: float) -> Tensor:
        weights = torch.tensor([beta**age for age in reversed(range(len(values)))])
        return (weights[:, None, None] * torch.stack(values)).sum(dim=0) / weights.sum()

    mean = mean_over_time(seen, 0.9).norm(dim=1)
    size = mean_over_time([value.square() for value in seen], 0.99).sum(dim=1).sqrt()
    torch.testing.assert_close(densify.steady_gradients(optimizer, 0.0), mean)
    ratio = mean / size
    assert ratio[0] > 0.9 and ratio[1] < 0.5
    torch.testing.assert_close(
        densify.steady_gradients(optimizer, 0.5), torch.stack([mean[0], torch.tensor(0.0)])
    )


def test_large_splats_are_split_and_small_ones_duplicated() -> None:
    splats = some_splats()
    splats.log_scales = torch.full((N, 3), 0.01).log()
    splats.log_scales[0, 1] = math.log(0.1)
    splats.requires_grad_()
    config = DensifyConfig("threshold", grow_gradient=0.5, split_scale=0.05, prune_opacity=0)
    gradients = torch.tensor([1.0, 1.0] + [0.0] * (N - 2))
    after = densify.gradient_round(
        splats, learned(splats), gradients, config, torch.Generator().manual_seed(1)
    )
    largest = after.scales.amax(dim=1)
    assert len(after) == N + 2
    assert (largest > 0.02).sum() == 2 and largest.max().item() == pytest.approx(0.1 / 1.6, rel=0.01)


def test_faint_and_huge_splats_are_pruned_but_never_all() -> None:
    splats = some_splats()
    splats.logit_opacities[0], splats.log_scales[1, 2] = -20.0, 5.0
    splats.requires_grad_()
    config = DensifyConfig("threshold", grow_gradient=math.inf, prune_scale=2.0)
    after = densify.gradient_round(splats, learned(splats), torch.ones(N), config, torch.Generator())
    assert torch.equal(after.means, splats.means[2:])
    everything = replace(config, prune_opacity=1.0)
    kept = densify.gradient_round(splats, learned(splats), torch.ones(N), everything, torch.Generator())
    assert len(kept) == N


def test_mcmc_grows_to_its_bound_and_leaves_no_dead() -> None:
    splats = some_splats()
    splats.logit_opacities[:3] = -20.0
    splats.requires_grad_()
    optimizer, generator = learned(splats), torch.Generator().manual_seed(2)
    config = DensifyConfig("mcmc", max_splats=15, mcmc_growth=0.2)
    sizes = []
    for _ in range(4):
        splats = densify.mcmc_round(splats, optimizer, config, generator)
        sizes.append(len(splats))
    assert sizes == [14, 15, 15, 15]
    assert splats.opacities.min() > 0.0049


# --- in the loop ------------------------------------------------------------------------------------------------------


class Plain(Flow):
    """A prior that wants every view to be grey 0.9. Latents are pictures made 4 times smaller."""

    name, image_size, vocabulary = "plain", 32, None

    def embed(self, prompts: Any) -> Any:
        from rfgs.priors.base import Condition

        return Condition(torch.full((len(prompts), 1, 1), 0.9))

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 4)

    def predict(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        return (x_t - 0.9) / t.view(-1, 1, 1, 1)


CONFIG = DistillConfig(
    steps=12,
    resolution=32,
    views_per_step=2,
    guidance_scale=1.0,
    densify_every=3,
    densify_range=(0.1, 0.9),
    max_splats=70,
    grow_gradient=1e-7,
)
STRATEGIES = ("threshold", "quantile", "momentum", "mcmc")


def run(config: DistillConfig, resume: dict | None = None, seed: int = 1) -> list[Step]:
    splats = ball(50, 0.5, generator=torch.Generator().manual_seed(9), opacity=0.5)
    generator = torch.Generator().manual_seed(seed)
    return list(distill("white", Plain(), splats, replace(config), generator=generator, resume=resume))  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_loop_grows_within_the_bound(strategy: str) -> None:
    sizes = [len(step.splats) for step in run(replace(CONFIG, densify=strategy))]
    assert sizes[:2] == [50, 50] and max(sizes) <= 70 and sizes[-1] > 50
    assert sizes[10:] == [sizes[-1]] * 2  # Nothing more after the range.


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("stop", [4, 6])
def test_a_run_resumes_bit_by_bit_between_and_after_rounds(strategy: str, stop: int) -> None:
    config = replace(CONFIG, densify=strategy)
    splats = ball(50, 0.5, generator=torch.Generator().manual_seed(9), opacity=0.5)
    for step in distill(
        "white", Plain(), splats, replace(config), generator=torch.Generator().manual_seed(1)
    ):  # type: ignore[arg-type]
        if step.index == stop:
            state = step.state()
    resumed = run(config, resume=state, seed=77)[-1]
    for whole, again in zip(
        step.splats.parameters().values(), resumed.splats.parameters().values(), strict=True
    ):
        assert torch.equal(whole, again)


def test_without_densification_its_settings_change_nothing() -> None:
    plain = run(CONFIG)[-1].splats
    other = run(replace(CONFIG, densify_every=1, max_splats=10**6, grow_quantile=0.0))[-1].splats
    assert len(plain) == 50 and torch.equal(plain.means, other.means)


def test_an_unknown_strategy() -> None:
    with pytest.raises(
        UserError, match="densify magic: has to be one of none, threshold, quantile, momentum, mcmc"
    ):
        run(replace(CONFIG, densify="magic"))  # type: ignore[arg-type]
