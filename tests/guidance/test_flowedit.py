"""FlowEdit between two Gaussians, where what it does is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.flowedit import FlowEditConfig, flowedit
from tests.guidance.regular import MU, RegularGaussianPrior

S, MOVE = 0.5, 2.0
PRIOR = RegularGaussianPrior(S**2)
HERE, THERE, NULL = PRIOR.embed([str(MU)]), PRIOR.embed([str(MU + MOVE)]), PRIOR.embed(["-3"])


def edit(seed: int = 1, **settings) -> tuple[Tensor, Tensor]:
    """The move of each value [1, 2, 4, 4], and the source."""
    x = MU + S * torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    config = FlowEditConfig(**{"source_scale": 1.0, "target_scale": 1.0, **settings})
    steps = list(flowedit(PRIOR, x, HERE, THERE, NULL, config, generator=torch.Generator().manual_seed(seed)))
    assert [step.index for step in steps] == list(range(1, steps[0].total + 1)) and steps[-1].t == 0.0
    return steps[-1].x - x, x


def exact(t: float) -> float:
    """d' = -move + a (d - (1 - t) move) with d = 0 at the start t, a = sigma'/sigma, sigma^2 = (1 - t)^2 s2 + t^2."""
    return MOVE * (1 - (1 - t) * S / ((1 - t) ** 2 * S**2 + t**2) ** 0.5)


@pytest.mark.parametrize("steps", [1, 7])
def test_from_pure_noise_on_it_moves_by_the_difference_of_the_means(steps: int) -> None:
    # Here d = (1 - t) move is a straight line, so that steps of any size are exact.
    moved, _ = edit(steps=steps, strength=1.0)
    torch.testing.assert_close(moved, torch.full_like(moved, MOVE))


def test_it_converges_with_the_first_order() -> None:
    errors = [
        float((edit(steps=steps, strength=0.5, shift=1.0)[0] - exact(0.5)).abs().max())
        for steps in (200, 400)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("strength", [0.3, 0.66])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_less_strength_moves_less_by_the_closed_form(strength: float, shift: float) -> None:
    moved, _ = edit(steps=250, strength=strength, shift=shift)
    start = shift * strength / (1 + (shift - 1) * strength)
    torch.testing.assert_close(moved, torch.full_like(moved, exact(start)), atol=0.03, rtol=0)
    assert 0 < exact(start) < MOVE


def test_one_prompt_twice_changes_nothing_whatever_the_noise() -> None:
    x = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    both = PRIOR.embed(["1", "1"])
    config = FlowEditConfig(steps=5, source_scale=3.5, target_scale=3.5)
    for step in flowedit(PRIOR, x, both, both, both, config, generator=torch.Generator().manual_seed(3)):
        torch.testing.assert_close(step.x, x)


def test_the_target_is_guided_by_its_own_scale_and_the_source_by_its() -> None:
    # Linear velocities: scale s moves each mean to null + s (mean - null), null = -3.
    moved, _ = edit(steps=60, strength=1.0, shift=1.0, source_scale=2.0, target_scale=3.0)
    expected = (-3 + 3 * (MU + MOVE + 3)) - (-3 + 2 * (MU + 3))
    torch.testing.assert_close(moved, torch.full_like(moved, expected), atol=1e-9, rtol=0)


def test_averages_ask_more_often_with_fresh_noise() -> None:
    asked: list[tuple[Tensor, float]] = []

    class Watched(RegularGaussianPrior):
        def predict(self, x_t, t, condition):
            asked.append((x_t, float(t[0])))
            return super().predict(x_t, t, condition)

    x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    config = FlowEditConfig(steps=4, strength=0.5, averages=3, source_scale=1.0, target_scale=1.0, shift=1.0)
    list(flowedit(Watched(), x, HERE, THERE, NULL, config, generator=torch.Generator().manual_seed(4)))
    assert [t for _, t in asked] == [0.5] * 6 + [0.25] * 6
    assert len({float(x_t[0, 0, 0, 0]) for x_t, _ in asked[1:6:2]}) == 3


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"strength": 0.0}, "strength 0"), ({"strength": 1.2}, "1.2"), ({"averages": 0}, "averages 0")],
)
def test_settings_that_cannot_be(settings: dict, match: str) -> None:
    with pytest.raises(UserError, match=match):
        edit(**settings)
