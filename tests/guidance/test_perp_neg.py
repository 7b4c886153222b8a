"""Perp-Neg's geometry, and that it costs what it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rfgs.guidance import Counted, Others, perp_neg, rfds
from rfgs.guidance.perp_neg import guided_prediction
from rfgs.priors.base import Condition
from rfgs.priors.flow import classifier_free
from tests.guidance.analytic import GaussianDiffusion, GaussianPrior


def predictions(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(count, 3, 2, 4, 4, generator=generator, dtype=torch.float64))


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2, 3))


def test_without_weights_it_is_classifier_free_guidance() -> None:
    text, null, one, two = predictions(4)
    weights = torch.zeros(3, 2, dtype=torch.float64)
    torch.testing.assert_close(
        perp_neg(text, null, [one, two], weights, 7.5), classifier_free(text, null, 7.5)
    )


def test_along_the_prompt_nothing_is_taken_away_and_across_it_all() -> None:
    text, null, other = predictions(3)
    weights = torch.tensor([[-1.0], [-0.5], [0.0]], dtype=torch.float64)
    guided = perp_neg(text, null, [other], weights, 4.0) - null
    own = text - null
    torch.testing.assert_close(dot(guided, own), 4 * dot(own, own))
    across = other - null - (dot(other - null, own) / dot(own, own))[:, None, None, None] * own
    torch.testing.assert_close(dot(guided, across), 4 * weights[:, 0] * dot(across, across))


def test_another_prompt_of_the_same_direction_changes_nothing() -> None:
    text, null = predictions(2)
    other = null + 0.3 * (text - null)
    weights = torch.full((3, 1), -2.0, dtype=torch.float64)
    torch.testing.assert_close(perp_neg(text, null, [other], weights, 3.0), classifier_free(text, null, 3.0))


@pytest.mark.parametrize("prior", [GaussianPrior(), GaussianDiffusion()])
def test_one_batch_asks_for_all_prompts(prior) -> None:
    counted = Counted(prior)
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    t = torch.full((2,), 0.5, dtype=torch.float64)
    text, null, one, two = (prior.embed([value, value]) for value in ("1", "0", "2", "-1"))
    others = Others((one, two), torch.full((2, 2), -0.5, dtype=torch.float64))
    found = guided_prediction(counted, x, t, text, null, 3.0, others)
    assert counted.take() == {"forward": 8, "backward": 0} and counted.take()["forward"] == 0
    each = [prior.predict(x, t, condition) for condition in (text, null, one, two)]
    torch.testing.assert_close(found, perp_neg(each[0], each[1], each[2:], others.weights, 3.0))


def test_rfds_takes_it() -> None:
    prior = GaussianPrior()
    x = torch.zeros(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    e = torch.ones_like(x)
    t = torch.tensor([0.5], dtype=torch.float64)
    # Two pixels of the same mean for every prompt: all directions are parallel, so that nothing may change.
    text, null, other = (prior.embed([value]) for value in ("1", "0", "2"))
    others = Others((other,), torch.tensor([[-1.0]], dtype=torch.float64))
    known = {"t": t, "e": e, "guidance_scale": 5.0}
    plain = rfds(prior, x, text, null, **known)
    torch.testing.assert_close(rfds(prior, x, text, null, others=others, **known).loss, plain.loss)


@pytest.mark.parametrize("prior", [GaussianPrior(), GaussianDiffusion()])
@pytest.mark.parametrize("with_others", [False, True])
def test_what_overflows_is_not_made_a_number(
    prior, with_others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the largest number there is, it would pass for a gradient and spoil Adam's moments for good."""
    predict = prior.predict

    def overflowing(x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        found = predict(x_t, t, condition)
        found[0, 0, 0, 0], found[1, 0, 0, 0] = torch.inf, torch.nan
        return found

    monkeypatch.setattr(prior, "predict", overflowing)
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    text, null, one = (prior.embed([value, value]) for value in ("1", "0", "2"))
    others = Others((one,), torch.full((2, 1), -0.5, dtype=torch.float64)) if with_others else None
    found = guided_prediction(prior, x, torch.full((2,), 0.5, dtype=torch.float64), text, null, 3.0, others)
    assert not found[:, 0, 0, 0].isfinite().any()
    assert with_others or found.isfinite().sum() == 6
