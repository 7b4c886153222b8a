"""SDS and VSD, for diffusion models and flows, where the answer is known in closed form."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance import guides, make_guide, rfds, rfds_vsd, sds, vsd
from rfgs.priors.flow import estimate_noise, estimate_x0, interpolate, per_sample
from tests.guidance.analytic import GaussianDiffusion, GaussianPrior


def draws(seed: int, batch: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """x with gradient, e, and t all over (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x, e = torch.randn(2, batch, 2, 3, 3, generator=generator, dtype=torch.float64)
    t = 0.01 + 0.98 * torch.rand(batch, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), e, t


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scale", [1.0, 7.5, 100.0])
@pytest.mark.parametrize("s2", [0.05, 2.0])
def test_rfds_is_sds_under_its_exact_reweighting(seed: int, scale: float, s2: float) -> None:
    """Two models of the same data, each with its own noising: the flow's loss is the other's with w = 1 / (1 - t)."""
    flow, diffusion = GaussianPrior(s2), GaussianDiffusion(s2)
    x, e, t = draws(seed)
    text, null = flow.embed(["0.7"] * 5), flow.embed(["-0.4"] * 5)
    known = {"t": t, "e": e, "guidance_scale": scale}
    (by_flow,) = torch.autograd.grad(rfds(flow, x, text, null, **known).loss, x)
    (reweighted,) = torch.autograd.grad(sds(diffusion, x, text, null, weight=1 / (1 - t), **known).loss, x)
    torch.testing.assert_close(by_flow, reweighted, rtol=1e-9, atol=1e-9)
    (plain,) = torch.autograd.grad(sds(diffusion, x, text, null, **known).loss, x)
    weight = per_sample((1 - diffusion.alpha_bars(t)) * (1 - t), x)
    torch.testing.assert_close(weight * by_flow, plain, rtol=1e-9, atol=1e-9)


def test_estimates_invert_the_path() -> None:
    x, e, t = draws(0)
    prior = GaussianDiffusion()
    x_t = interpolate(prior, x, e, t)
    torch.testing.assert_close(estimate_x0(prior, x_t, e, t), x)
    assert estimate_noise(prior, x_t, e, t) is e


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_sds_descends_to_the_mean(t: float) -> None:
    prior = GaussianDiffusion()
    text = prior.embed(["1.5"] * 256)
    times = torch.full((256,), t, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    alpha, sigma = (share.item() for share in prior.alpha_sigma(torch.tensor(t)))
    pace = alpha * sigma  # sigma^2 makes extreme times slow.
    x = torch.full((256, 1, 1, 1), -2.0, dtype=torch.float64, requires_grad=True)
    for _ in range(300):
        e = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        loss = sds(prior, x, text, text, t=times, e=e, guidance_scale=1.0).loss
        (slope,) = torch.autograd.grad(loss * len(x), x)
        with torch.no_grad():
            x -= 0.1 / pace * slope
    assert x.mean().item() == pytest.approx(1.5, abs=0.06)


@pytest.mark.parametrize("method", ["vsd", "rfds-vsd"])
def test_with_a_perfect_student_the_images_become_the_distribution_and_not_its_mode(method: str) -> None:
    """The student knows the images' own mean and spread; SDS would shrink the spread to nothing."""
    s2 = 0.25
    flow = method == "rfds-vsd"
    prior = GaussianPrior(s2) if flow else GaussianDiffusion(s2)
    count = 512
    generator = torch.Generator().manual_seed(2)
    x = (-1 + 0.2 * torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)).requires_grad_()
    text = prior.embed(["1.0"] * count)
    for _ in range(400):
        t = 0.1 + 0.8 * torch.rand(count, generator=generator, dtype=torch.float64)
        e = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        mean, spread = x.detach().mean().item(), x.detach().var().item()
        student = (GaussianPrior if flow else GaussianDiffusion)(spread)
        own = student.embed([str(mean)] * count)
        says = partial(student.predict, condition=own)
        guidance = rfds_vsd if flow else vsd
        estimate = guidance(prior, says, x, text, text, t=t, e=e, guidance_scale=1.0)
        (slope,) = torch.autograd.grad(estimate.loss * count, x)
        with torch.no_grad():
            x -= 0.1 * slope
    assert x.mean().item() == pytest.approx(1.0, abs=0.05)
    assert x.var().item() == pytest.approx(s2, rel=0.15)


@pytest.mark.parametrize("method", ["vsd", "rfds-vsd"])
def test_where_prior_and_student_agree_nothing_moves(method: str) -> None:
    x, e, t = draws(3)
    prior = GaussianDiffusion() if method == "vsd" else GaussianPrior()
    says = prior.predict
    text = prior.embed(["0.3"] * 5)
    guidance = vsd if method == "vsd" else rfds_vsd
    estimate = guidance(prior, lambda x_t, t: says(x_t, t, text), x, text, text, t=t, e=e, guidance_scale=1.0)
    estimate.loss.backward()
    assert estimate.residual.item() == 0
    torch.testing.assert_close(x.grad, torch.zeros_like(x.grad), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", guides())
def test_pairs_that_make_no_sense(name: str) -> None:
    right, wrong = GaussianPrior(), GaussianDiffusion()
    if name in ("sds", "vsd"):
        right, wrong = wrong, right
    assert make_guide(name, right).state() == {}
    fitting = {"flow": "take rfds or rfds-rev or rfds-vsd", "diffusion": "take sds or vsd"}[wrong.kind]
    with pytest.raises(
        UserError, match=f"guidance {name}: is defined for .*, and {wrong.name} is .*; {fitting}$"
    ):
        make_guide(name, wrong)
