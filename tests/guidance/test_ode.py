"""ODE inversion and sampling against the flow's exact path: for data N(mu, s2) it is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.ode import OdeConfig, integrate, invert_ode, sample_ode, time_grid
from rfgs.priors.base import Condition
from tests.guidance.regular import MU, RegularGaussianPrior

S = 0.5
PRIOR = RegularGaussianPrior(S**2)
HERE, NOWHERE = PRIOR.embed([str(MU)]), PRIOR.embed(["-3"])


def data() -> Tensor:
    return MU + S * torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 3)])
def test_inversion_converges_to_the_exact_noise(solver: str, order: int) -> None:
    """(x - mu) / s. Midpoint gains an order here: with spread^2 quadratic in t its error of second order vanishes."""
    x, errors = data(), []
    for steps in (50, 100):
        *_, last = invert_ode(PRIOR, x, HERE, NOWHERE, OdeConfig(steps=steps, solver=solver))
        assert last.t == 1.0 and last.index == last.total == steps
        errors.append(float((last.x - (x - MU) / S).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)
    assert errors[1] < (0.04 if order == 1 else 2e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2)])
def test_orders_on_a_flow_that_is_no_gaussians(solver: str, order: int, shift: float) -> None:
    class Exponential(RegularGaussianPrior):
        """dx/dt = (1 + t) x, so that x(1) = x(0) exp(1.5)."""

        def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return (1 + t) * x_t

    x, errors = torch.ones(1, 1, 1, 1, dtype=torch.float64), []
    for steps in (50, 100):
        *_, last = integrate(Exponential(), x, HERE, NOWHERE, time_grid(steps, shift), solver=solver)
        errors.append(abs(float(last.x) - math.exp(1.5)))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)


def test_half_way_the_path_is_where_it_should_be() -> None:
    x = data()
    *_, last = integrate(PRIOR, x, HERE, NOWHERE, time_grid(400)[:201], solver="midpoint")
    spread = (0.5**2 * S**2 + 0.5**2) ** 0.5
    torch.testing.assert_close(last.x, 0.5 * MU + spread * (x - MU) / S, atol=1e-3, rtol=0)


def test_sampling_goes_back() -> None:
    x = data()
    config = OdeConfig(steps=200, solver="midpoint")
    *_, noise = invert_ode(PRIOR, x, HERE, NOWHERE, config)
    first, *_, back = sample_ode(PRIOR, noise.x, HERE, NOWHERE, config)
    torch.testing.assert_close(back.x, x, atol=5e-4, rtol=0)
    # Where nothing is known of the image, the best guess is the mean of all.
    torch.testing.assert_close(first.x0_hat, torch.full_like(x, MU))
    assert back.t == 0.0


def test_sampling_under_another_prompt_moves_the_mean() -> None:
    """The same noise under another mean is the same image, moved: the closed form of editing by inversion."""
    x, there = data(), PRIOR.embed([str(MU + 2)])
    config = OdeConfig(steps=300, solver="midpoint")
    *_, noise = invert_ode(PRIOR, x, HERE, NOWHERE, config)
    *_, edited = sample_ode(PRIOR, noise.x, there, NOWHERE, config)
    torch.testing.assert_close(edited.x, x + 2, atol=1e-3, rtol=0)


def test_guidance_follows_the_extrapolated_mean() -> None:
    # The velocity is linear in mu, so that scale s between two means is the flow of null + s (text - null).
    config = OdeConfig(steps=20, guidance_scale=2.0)
    *_, guided = sample_ode(PRIOR, data(), HERE, NOWHERE, config)
    *_, plain = sample_ode(PRIOR, data(), PRIOR.embed([str(-3 + 2 * (MU + 3))]), NOWHERE, OdeConfig(steps=20))
    torch.testing.assert_close(guided.x, plain.x)


def test_time_grid_is_the_schedule_of_stable_diffusion_3() -> None:
    assert time_grid(4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert time_grid(4, 3.0).tolist() == pytest.approx([0, 0.5, 0.75, 0.9, 1])


@pytest.mark.parametrize(("steps", "shift", "match"), [(0, 1.0, "0 steps"), (5, 0.0, "shift 0: has to be")])
def test_grids_that_cannot_be(steps: int, shift: float, match: str) -> None:
    with pytest.raises(UserError, match=match):
        time_grid(steps, shift)
