"""Densification against gsplat's own operations on the same tensors, and against what it promises: bounds, and resuming."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rfgs import densify
from rfgs.cameras import orbit
from rfgs.densify import DensifyConfig, Growth, relocation
from rfgs.distill import DistillConfig, Step, distill, regularised
from rfgs.errors import UserError
from rfgs.render import render
from rfgs.splats import Splats, ball

N = 12
GSPLAT_NAMES = {
    "means": "means",
    "quats": "quats",
    "log_scales": "scales",
    "logit_opacities": "opacities",
    "sh0": "sh0",
}
MASK = torch.tensor([True, False, False, True, True, False, False, False, True, False, False, False])


def some_splats(seed: int = 3) -> Splats:
    """No two alike in anything."""
    generator = torch.Generator().manual_seed(seed)
    splats = ball(N, 0.5, generator=generator)
    splats.log_scales = splats.log_scales + 0.3 * torch.randn(N, 3, generator=generator)
    splats.logit_opacities = torch.randn(N, generator=generator)
    return splats


def learned(splats: Splats) -> torch.optim.Optimizer:
    """One Adam, one group a parameter, after two steps with gradients of chance."""
    optimiser = torch.optim.Adam([{"params": [value]} for value in splats.parameters().values()], lr=1e-3)
    _two_steps(list(splats.parameters().values()), [optimiser])
    return optimiser


def _two_steps(values: list[Tensor], optimisers: list[torch.optim.Optimizer]) -> None:
    generator = torch.Generator().manual_seed(8)
    for _ in range(2):
        for value in values:
            value.grad = torch.randn(value.shape, generator=generator)
        for optimiser in optimisers:
            optimiser.step()


def both(
    ours: Callable[[Splats, torch.optim.Optimizer], Splats], theirs: Callable[[dict, dict], Any]
) -> None:
    """Checks that an operation of ours and one of gsplat's leave the same parameters and the same moments."""
    splats = some_splats().requires_grad_()
    optimiser = learned(splats)
    params = {
        GSPLAT_NAMES[name]: torch.nn.Parameter(value.clone())
        for name, value in some_splats().parameters().items()
    }
    optimisers = {name: torch.optim.Adam([value], lr=1e-3) for name, value in params.items()}
    _two_steps(list(params.values()), list(optimisers.values()))

    after = ours(splats, optimiser)
    theirs(params, optimisers)
    for (name, value), group in zip(after.parameters().items(), optimiser.param_groups, strict=True):
        other = params[GSPLAT_NAMES[name]]
        torch.testing.assert_close(value, other.data, rtol=1e-5, atol=1e-6)
        assert group["params"][0] is value and value.requires_grad and value.is_leaf
        mine, gsplats = optimiser.state[value], optimisers[GSPLAT_NAMES[name]].state[other]
        assert set(mine) == {"step", "exp_avg", "exp_avg_sq"} and mine["step"] == gsplats["step"] == 2
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(mine[key], gsplats[key])
    assert len(optimiser.state) == 5  # What is gone is forgotten.


@pytest.fixture
def ops(monkeypatch: pytest.MonkeyPatch) -> Any:
    """gsplat's operations, with our formula in the place of its CUDA kernel."""
    module = importlib.import_module("gsplat.strategy.ops")

    def formula(opacities: Tensor, scales: Tensor, ratios: Tensor, binoms: Tensor) -> tuple[Tensor, Tensor]:
        return relocation(opacities, scales, ratios)

    monkeypatch.setattr(module, "compute_relocation", formula)
    return module


def test_duplicate_is_gsplats(ops: Any) -> None:
    both(
        lambda splats, optimiser: densify.duplicate(splats, optimiser, MASK),
        lambda params, optimisers: ops.duplicate(params, optimisers, {}, MASK),
    )


def test_split_is_gsplats(ops: Any) -> None:
    def theirs(params: dict, optimisers: dict) -> None:
        torch.manual_seed(5)
        ops.split(params, optimisers, {}, MASK)

    both(
        lambda splats, optimiser: densify.split(splats, optimiser, MASK, torch.Generator().manual_seed(5)),
        theirs,
    )


def test_remove_is_gsplats(ops: Any) -> None:
    both(
        lambda splats, optimiser: densify.remove(splats, optimiser, MASK),
        lambda params, optimisers: ops.remove(params, optimisers, {}, MASK),
    )


def test_relocate_is_gsplats(ops: Any) -> None:
    def theirs(params: dict, optimisers: dict) -> None:
        torch.manual_seed(5)
        ops.relocate(params, optimisers, {}, MASK, torch.zeros(51, 51), 0.005)

    both(
        lambda splats, optimiser: densify.relocate(
            splats, optimiser, MASK, 0.005, torch.Generator().manual_seed(5)
        ),
        theirs,
    )


def test_sample_add_is_gsplats(ops: Any) -> None:
    def theirs(params: dict, optimisers: dict) -> None:
        torch.manual_seed(5)
        ops.sample_add(params, optimisers, {}, 7, torch.zeros(51, 51), 0.005)

    both(
        lambda splats, optimiser: densify.sample_add(
            splats, optimiser, 7, 0.005, torch.Generator().manual_seed(5)
        ),
        theirs,
    )


def test_what_gsplat_watches_is_what_is_watched() -> None:
    strategy = importlib.import_module("gsplat.strategy").DefaultStrategy(absgrad=True)
    splats = some_splats().requires_grad_()
    cameras = orbit(torch.tensor([0.0, 90.0]), torch.tensor([0.0, 30.0]), 3.0, 40.0, 48, 48)
    growth, state = Growth(), strategy.initialize_state()
    for weight in (1.0, 2.0):
        frames = render(splats, cameras, torch.ones(3), absgrad=True)
        (weight * frames.rgb.square().mean()).backward()
        densify.watch(growth, frames)
        strategy._update_state(splats.parameters(), state, {**frames.info, "gaussian_ids": None})
    assert state["grad2d"].min() > 0
    torch.testing.assert_close(growth.grad2d, state["grad2d"])
    torch.testing.assert_close(growth.count, state["count"])


@pytest.mark.parametrize("copies", [1, 2, 5, 20])
def test_relocated_splats_look_like_the_one_before(copies: int) -> None:
    """Integrals along a line through the centre, by quadrature, of one splat and of `copies` composited in its place."""
    opacity, scale = torch.tensor([0.7]), torch.tensor([[0.2, 0.3, 0.4]])
    new_opacity, new_scale = relocation(opacity, scale, torch.tensor([copies]))
    assert 1 - (1 - new_opacity.item()) ** copies == pytest.approx(0.7, rel=1e-5)
    x = torch.linspace(-8, 8, 20001, dtype=torch.float64)

    def seen(opacity: float, scale: float, count: int) -> float:
        return (1 - (1 - opacity * (-0.5 * (x / scale) ** 2).exp()) ** count).mean().item()

    for axis in range(3):
        after = seen(new_opacity.item(), new_scale[0, axis].item(), copies)
        assert after == pytest.approx(seen(0.7, scale[0, axis].item(), 1), rel=1e-4)


def test_jitter_moves_faint_splats_alone_and_along_their_axes() -> None:
    splats = some_splats()
    splats.logit_opacities = torch.full((N,), 0.0005).logit()
    splats.logit_opacities[MASK] = 2.0
    splats.quats = torch.tensor([1.0, 0, 0, 0]).repeat(N, 1)
    splats.log_scales = torch.tensor([1.0, 1e-3, 1e-3]).log().repeat(N, 1)
    before = splats.means.clone()
    densify.jitter(splats, 1.0, torch.Generator().manual_seed(1))
    moved = (splats.means - before).abs()
    assert moved[MASK].max() < 1e-6
    assert moved[~MASK, 0].min() > 1e-3 and moved[:, 1:].max() < 1e-4


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
    optimiser, generator = learned(splats), torch.Generator().manual_seed(2)
    config = DensifyConfig("mcmc", max_splats=15, mcmc_growth=0.2)
    sizes = []
    for _ in range(4):
        splats = densify.mcmc_round(splats, optimiser, config, generator)
        sizes.append(len(splats))
    assert sizes == [14, 15, 15, 15]
    assert splats.opacities.min() > 0.0049


# --- in the loop ------------------------------------------------------------------------------------------------------


class Plain:
    """A prior that wants every view to be grey 0.9. Latents are pictures made 4 times smaller."""

    name, kind, image_size, vocabulary = "plain", "flow", 32, None

    def embed(self, prompts: Any) -> Any:
        from rfgs.priors.base import Condition

        return Condition(torch.full((len(prompts), 1, 1), 0.9))

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 4)

    def velocity(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
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
STRATEGIES = ("threshold", "quantile", "mcmc")


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
    with pytest.raises(UserError, match="densify 'magic': there are none, threshold, quantile and mcmc"):
        run(replace(CONFIG, densify="magic"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({}, 0.0),
        ({"opacity_weight": 2.0}, 2 * 0.1),
        ({"scale_weight": 2.0}, 2 * (0.1 + 0.1 + 1.6) / 3),
        ({"anisotropy_weight": 2.0}, 2 * math.log(16 / 4)),
        ({"anisotropy_weight": 2.0, "anisotropy_limit": 16.5}, 0.0),
    ],
)
def test_regularisers(settings: dict, value: float) -> None:
    splats = ball(5, 0.5, generator=torch.Generator(), opacity=0.1)
    splats.log_scales = torch.tensor([0.1, 1.6, 0.1]).log().repeat(5, 1)
    config = DistillConfig(**{"anisotropy_limit": 4.0, **settings})
    assert regularised(torch.tensor(0.0), splats, config).item() == pytest.approx(value, abs=1e-6)
