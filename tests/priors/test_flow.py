"""The flow's conventions: identities, golden values, and the ranges of noise."""

import pytest
import torch

from rfgs.priors.flow import (
    Flow,
    classifier_free,
    draw_times,
    estimate_noise,
    estimate_x0,
    interpolate,
    noise_range_at,
)


def test_estimates_invert_the_interpolant() -> None:
    x, e = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    x_t, v = interpolate(Flow, x, e, t), e - x
    torch.testing.assert_close(estimate_x0(Flow, x_t, v, t), x)
    torch.testing.assert_close(estimate_noise(Flow, x_t, v, t), e)


def test_t_is_the_share_of_noise() -> None:
    x, e = torch.zeros(2, 1), torch.ones(2, 1)
    assert interpolate(Flow, x, e, torch.tensor([0.25, 1.0])).flatten().tolist() == [0.25, 1.0]


def test_classifier_free_guidance() -> None:
    text, null = torch.tensor([-0.1]), torch.tensor([0.1])
    assert classifier_free(text, null, 50).item() == pytest.approx(-9.9)
    assert classifier_free(text, null, 1).item() == pytest.approx(-0.1)
    assert classifier_free(text, null, 0).item() == pytest.approx(0.1)


def test_noise_range_moves_in_a_straight_line() -> None:
    first, last = (0.2, 1.0), (0.1, 0.6)
    assert noise_range_at(0, first, last) == pytest.approx(first)
    assert noise_range_at(1, first, last) == pytest.approx(last)
    assert noise_range_at(0.5, first, last) == pytest.approx((0.15, 0.8))


def test_times_of_a_batch_cover_the_range_evenly() -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([draw_times(4, (0.2, 0.6), generator) for _ in range(200)])
    bins = ((draws - 0.2) / 0.1).floor().sort(dim=1).values
    assert (bins == torch.arange(4.0)).all()
    assert (draws.mean(0) - 0.4).abs().max() < 0.03  # Each place of the batch sees the whole range.


def test_times_lean_to_the_noise_as_the_authors_draw_them() -> None:
    """u ~ U(0.02, 0.70), t = 3 u / (1 + 2 u): by its distribution function u(t), its ends, its mean and its tail."""
    low, high = (3 * u / (1 + 2 * u) for u in (0.02, 0.70))
    generator = torch.Generator().manual_seed(1)
    t = torch.cat([draw_times(4, (low, high), generator, shift=3.0) for _ in range(5000)]).double()
    assert low <= t.min() < low + 0.01 and high - 0.01 < t.max() <= high
    assert abs(t.mean() - 0.58) < 0.005 and abs((t > 0.75).double().mean() - 0.29) < 0.01
    below = (t[:, None] < torch.linspace(0.1, 0.85, 16)).double().mean(0)
    expected = (torch.linspace(0.1, 0.85, 16) / (3 - 2 * torch.linspace(0.1, 0.85, 16)) - 0.02) / 0.68
    assert (below - expected).abs().max() < 0.01
    # Without it nothing changes, to the bit.
    same, even = (torch.Generator().manual_seed(2) for _ in range(2))
    assert torch.equal(draw_times(4, (0.2, 0.6), same, shift=1.0), draw_times(4, (0.2, 0.6), even))
