"""RFDS, iRFDS and RFDS-Rev against golden values, float64 autograd and a flow known in closed form."""

import pytest
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance import (
    GuidanceConfig,
    InversionConfig,
    Views,
    invert,
    irfds,
    make_guide,
    matching_loss,
    noise_step,
    reversed_noise,
    rfds,
    rfds_rev,
)
from rfgs.priors.base import Condition
from rfgs.priors.flow import Flow, interpolate
from tests.guidance.analytic import GaussianPrior, TablePrior


def scalar(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


NOTHING = Condition(torch.zeros(1, 1, 1))


def test_golden_values_of_rfds_rev_for_sd3() -> None:
    x = scalar(1.0).requires_grad_()
    prior = TablePrior([scalar(0.2), torch.cat([scalar(-0.1), scalar(0.1)])])
    t = torch.tensor([0.5], dtype=torch.float64)
    estimate = rfds_rev(prior, x, NOTHING, NOTHING, t=t, e=scalar(-0.5), guidance_scale=50, reduction="mean")
    estimate.loss.backward()
    assert prior.asked[0][0].item() == pytest.approx(0.25)  # x_t
    assert prior.asked[1][0][0].item() == pytest.approx(0.675)  # x_t with the noise found
    assert estimate.loss.item() == pytest.approx(85.5625)
    assert x.grad.item() == pytest.approx(-18.5)


def test_golden_values_of_rfds_rev_for_instaflow() -> None:
    # tau = 0.6 is t = 0.4; InstaFlow's own velocities 0.7, 1.0 and 0.9 point from noise to data, ours the other way.
    x = scalar(1.0).requires_grad_()
    prior = TablePrior([scalar(-0.7), torch.cat([scalar(-1.0), scalar(-0.9)])])
    t = torch.tensor([0.4], dtype=torch.float64)
    estimate = rfds_rev(
        prior, x, NOTHING, NOTHING, t=t, e=scalar(-0.5), guidance_scale=50, exact=True, reduction="mean"
    )
    estimate.loss.backward()
    assert prior.asked[0][0].item() == pytest.approx(0.4)
    assert prior.asked[1][0][0].item() == pytest.approx(0.72)
    assert estimate.loss.item() == pytest.approx(27.04)
    assert x.grad.item() == pytest.approx(-10.4)


def test_the_noise_found_has_the_closed_forms_of_both_conventions() -> None:
    generator = torch.Generator().manual_seed(0)
    x, e, v = torch.randn(3, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    x_t = interpolate(Flow, x, e, t)
    torch.testing.assert_close(noise_step(x, e, v, t, 1.0), x_t + (1 - t)[:, None, None, None] * v)
    torch.testing.assert_close(noise_step(x, e, v, t, 1.0, exact=True), x + v)


@pytest.mark.parametrize("guidance", [rfds, rfds_rev])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_descent_goes_to_the_mean(guidance, t: float) -> None:
    """The fixed point of the expected gradient is x = mu: a wrong sign would run away from it."""
    prior = GaussianPrior()
    condition = prior.embed(["1.5"] * 512)
    generator = torch.Generator().manual_seed(1)
    x = torch.full((512, 1, 1, 1), -2.0, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        e = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        times = torch.full((512,), t, dtype=torch.float64)
        loss = guidance(prior, x, condition, condition, t=times, e=e, guidance_scale=1.0).loss
        (gradient,) = torch.autograd.grad(loss * len(x), x)
        with torch.no_grad():
            x -= 0.05 * gradient
    if guidance is rfds_rev and t < 0.3:
        # At little noise the noise found explains almost any image: the way is the same, but slow.
        assert -1.5 < x.mean().item() < 1.5
    else:
        assert x.mean().item() == pytest.approx(1.5, abs=0.05)


def test_expected_rfds_gradient_has_the_analytic_slope() -> None:
    # Expectation over e of v - u for data N(mu, s2): (1 - k (1 - t)) (x - mu) / t.
    s2, t, mu, offset = 0.25, 0.4, 0.5, 0.7
    count = 200_000
    prior = GaussianPrior(s2)
    x = torch.full((count, 1, 1, 1), mu + offset, dtype=torch.float64, requires_grad=True)
    e = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    condition = Condition(torch.full((count, 1, 1), mu, dtype=torch.float64))
    times = torch.full((count,), t, dtype=torch.float64)
    rfds(prior, x, condition, condition, t=times, e=e, guidance_scale=1.0).loss.backward()
    gain = (1 - t) * s2 / ((1 - t) ** 2 * s2 + t**2)
    expected = (1 - gain * (1 - t)) * offset / t
    assert x.grad.sum().item() == pytest.approx(expected, rel=0.01)


def test_rfds_is_sds_under_its_exact_weight() -> None:
    # e_hat - e = (1 - t)(v - u) and x - x0_hat = t (v - u).
    prior = GaussianPrior()
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    e = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
    condition = prior.embed(["0.3"] * 4)
    estimate = rfds(prior, x, condition, condition, t=t, e=e, guidance_scale=1.0)
    estimate.loss.backward()
    x_t = interpolate(Flow, x.detach(), e, t)
    v = prior.predict(x_t, t, condition)
    weight = t[:, None, None, None]
    sds = (x_t + (1 - weight) * v - e) / (1 - weight)
    torch.testing.assert_close(4 * x.grad, sds)
    torch.testing.assert_close(4 * x.grad, (x.detach() - estimate.x0_hat) / weight)


@pytest.mark.parametrize(("name", "function"), [("rfds", rfds), ("rfds-rev", rfds_rev)])
def test_a_weight_by_time_multiplies_each_sample(name: str, function) -> None:
    prior = GaussianPrior()
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    e = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.1, 0.4, 0.95], dtype=torch.float64)
    condition = prior.embed(["0.3"] * 3)
    loss = function(prior, x, condition, condition, t=t, e=e, guidance_scale=1.0).loss
    (uniform,) = torch.autograd.grad(loss, x)
    views = Views(x, condition, condition, t, e, plain=condition, generator=generator)
    for kind, weight in (("uniform", torch.ones(3)), ("1-t", 1 - t)):
        config = GuidanceConfig(guidance_scale=1.0, own={"time_weight": kind})
        (gradient,) = torch.autograd.grad(make_guide(name, prior)(views, config).loss, x)
        torch.testing.assert_close(gradient, weight.double()[:, None, None, None] * uniform)
    with pytest.raises(UserError, match="time_weight 'snr': there are uniform and 1-t"):
        make_guide(name, prior)(views, GuidanceConfig(own={"time_weight": "snr"}))


@pytest.mark.parametrize("batch", [1, 4])
def test_gradient_scale_of_both_reductions(batch: int) -> None:
    u = torch.randn(batch, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(batch, 3, 4, 4, dtype=torch.float64)
    (by_sum,) = torch.autograd.grad(matching_loss(u, target, "sum"), u)
    (by_mean,) = torch.autograd.grad(matching_loss(u, target, "mean"), u)
    difference = (u - target).detach()
    torch.testing.assert_close(by_sum, difference / batch)
    torch.testing.assert_close(by_mean, 2 * difference / (u.numel() * batch))


def test_guidance_scale_mixes_text_and_negative_in_that_order() -> None:
    prior = GaussianPrior()
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    t = torch.tensor([0.5, 0.5], dtype=torch.float64)
    text, null = prior.embed(["1", "1"]), prior.embed(["-1", "-1"])
    at = {s: rfds(prior, x, text, null, t=t, e=x, guidance_scale=s).x0_hat for s in (0.0, 1.0, 3.0)}
    torch.testing.assert_close(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]))
    assert (at[1.0] > at[0.0]).all()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_parity_with_the_equations_written_out(steps: int, exact: bool) -> None:
    prior = GaussianPrior(0.6)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    e = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.35, 0.75], dtype=torch.float64)
    text, null = prior.embed(["0.8", "0.8"]), prior.embed(["0", "0"])
    rfds_rev(prior, x, text, null, t=t, e=e, guidance_scale=7.5, steps=steps, exact=exact).loss.backward()
    with torch.no_grad():
        s = t.view(2, 1, 1, 1)
        noise = e
        for _ in range(steps):
            v1 = prior.predict((1 - s) * x + s * noise, t, text)
            step = 1.0 if exact else 1 - s
            noise = noise + step * (x + v1 - noise)
        x_t = (1 - s) * x + s * noise
        v_text, v_null = prior.predict(x_t, t, text), prior.predict(x_t, t, null)
        residual = v_null + 7.5 * (v_text - v_null) - (noise - x)
    torch.testing.assert_close(x.grad, residual / 2, rtol=1e-9, atol=1e-12)


def test_the_noise_found_moves_the_noisy_view_against_the_step_of_rfds() -> None:
    """By (1 - t) d, where d = x0_hat - x is that step: why what the prior is unsure of is averaged (bench/found_noise.py)."""
    prior, generator = GaussianPrior(), torch.Generator().manual_seed(2)
    x, e = (torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    condition = prior.embed(["1"] * 3)
    d = rfds(prior, x, condition, condition, t=t, e=e, guidance_scale=1).x0_hat - x
    found = reversed_noise(prior, x, condition, t=t, e=e)
    expected = interpolate(prior, x, e, t) - (1 - t[:, None, None, None]) * d
    torch.testing.assert_close(interpolate(prior, x, found, t), expected)


def test_no_gradient_reaches_the_noise_found() -> None:
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    found = reversed_noise(
        GaussianPrior(), x, GaussianPrior().embed(["1"]), t=torch.tensor([0.5]), e=torch.ones(1, 1, 2, 2)
    )
    assert not found.requires_grad


def test_renormalized_noise_has_unit_moments() -> None:
    prior = GaussianPrior()
    generator = torch.Generator().manual_seed(5)
    e = torch.randn(3, 4, 8, 8, generator=generator, dtype=torch.float64)
    x = torch.zeros_like(
        e
    )  # An image at the mean: the spread found is 1 / (1 + SNR) = 1 / (1 + 0.36 * 0.25 / 0.16).
    t = torch.full((3,), 0.4, dtype=torch.float64)
    condition = prior.embed(["0"] * 3)
    plain = reversed_noise(prior, x, condition, t=t, e=e)
    unit = reversed_noise(prior, x, condition, t=t, e=e, renormalize=True)
    assert plain.std().item() == pytest.approx(0.64, abs=0.03)
    torch.testing.assert_close(unit.std((1, 2, 3)), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(unit.mean((1, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_irfds_gradient_is_that_of_the_noise() -> None:
    prior = GaussianPrior()
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    e = torch.randn(x.shape, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.3, 0.6], dtype=torch.float64)
    condition = prior.embed(["0.5", "0.5"])
    irfds(prior, x, e, condition, t=t).loss.backward()
    v = prior.predict(interpolate(Flow, x, e.detach(), t), t, condition)
    torch.testing.assert_close(e.grad, 2 * (e.detach() - x - v) / (x.numel() * 2))


def test_inversion_finds_noise_that_leads_back_to_the_image() -> None:
    """For Gaussian data the exact noise of x is (x - mu) / s: sampling from it ends at x."""
    prior = GaussianPrior(0.25)
    x = 0.5 + 0.5 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    condition = prior.embed(["0.5"])
    config = InversionConfig(steps=600, learning_rate=1e-2)
    *_, (noise, _) = invert(prior, x, condition, config, generator=torch.Generator().manual_seed(7))
    one_step = noise - prior.predict(noise, torch.ones(1, dtype=torch.float64), condition)
    assert one_step.shape == x.shape
    exact = (x - 0.5) / 0.5
    correlation = torch.corrcoef(torch.stack([noise.flatten(), exact.flatten()]))[0, 1]
    assert correlation > 0.9
