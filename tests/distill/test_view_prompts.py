"""Prompts of views: which words, how they are mixed, and what is pushed away."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from rfgs.distill.view_prompts import SIDES, Prompter, other_sides, side_weights
from rfgs.priors.base import Condition
from rfgs.render.cameras import orbit, view_words


class Letters:
    """Each text is one token: a one-hot of the side it names, with the length of its first word behind."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed(self, prompts: Sequence[str]) -> Condition:
        self.embedded.extend(prompts)
        rows = [
            [float(side in text) for side in SIDES] + [float(len(text.split(",")[0]))] for text in prompts
        ]
        return Condition(torch.tensor(rows)[:, None], torch.tensor(rows)[:, :2])


def cameras(azimuths: list[float], elevation: float = 10.0):
    return orbit(azimuths, elevation, 3.0, 40.0, 32, 32)


def weights(azimuth: float, elevation: float = 0.0) -> list[float]:
    return side_weights(torch.tensor([azimuth]), torch.tensor([elevation]))[0].tolist()


def test_words_switch_unless_asked_otherwise() -> None:
    prior = Letters()
    asked = Prompter(prior)("a cat", "bad", cameras([0, 60, 180]))
    assert asked.condition.tokens[:, 0, :5].argmax(1).tolist() == [0, 1, 2]
    assert asked.others is None and len(asked.plain) == len(asked.negative) == 3
    assert asked.plain.tokens[:, 0].tolist() == [[0, 0, 0, 0, 0, 5]] * 3
    assert set(prior.embedded) == {
        "a cat",
        "bad",
        "a cat, front view",
        "a cat, left side view",
        "a cat, back view",
    }


@pytest.mark.parametrize(
    ("azimuth", "side"), [(0, 0), (90, 1), (180, 2), (-180, 2), (-90, 3), (270, 3), (360, 0)]
)
def test_seen_straight_a_side_is_itself_alone(azimuth: float, side: int) -> None:
    assert weights(azimuth) == pytest.approx([float(k == side) for k in range(5)], abs=1e-6)
    assert view_words(azimuth, 0) == [SIDES[side]]


def test_mixing_is_continuous_all_around_and_over_the_top_and_agrees_with_the_words() -> None:
    azimuths = torch.arange(0, 1441) / 4
    for elevation in (0.0, 55.0, 69.0):
        shares = side_weights(azimuths, torch.full_like(azimuths, elevation))
        torch.testing.assert_close(shares.sum(1), torch.ones(len(azimuths)))
        assert shares.min() >= 0 and shares.diff(dim=0).abs().max() < 0.004
    low = side_weights(azimuths[:-1] + 0.1, torch.zeros(1440)).argmax(1)
    assert [SIDES[k] for k in low] == view_words(azimuths[:-1] + 0.1, 0.0)
    heights = torch.arange(0, 361) / 4
    over = side_weights(torch.full_like(heights, 30.0), heights)
    assert over.diff(dim=0).abs().max() < 0.02 and over[-1].tolist() == [0, 0, 0, 0, 1]


def test_a_mixed_prompt_is_the_mean_of_its_neighbors_tokens_and_pooled() -> None:
    asked = Prompter(Letters())("a cat", "", cameras([45, -22.5], elevation=0), smooth=True)
    torch.testing.assert_close(
        asked.condition.tokens[:, 0],
        torch.tensor([[0.5, 0.5, 0, 0, 0, 5], [0.75, 0, 0, 0.25, 0, 5]]),
        atol=1e-5,
        rtol=0,
    )
    torch.testing.assert_close(
        asked.condition.pooled, torch.tensor([[0.5, 0.5], [0.75, 0]]), atol=1e-5, rtol=0
    )


def test_what_is_pushed_away_follows_the_published_table() -> None:
    azimuths = torch.tensor([0.0, 89.999, 90.0, 179.999, -30.0, -120.0])
    sides, found = other_sides(azimuths, torch.zeros(6))
    assert sides[0] == (SIDES[0], SIDES[3]) and sides[1] == (SIDES[0], SIDES[1])
    assert sides[2] == (SIDES[1], SIDES[0]) and sides[4] == (SIDES[0], SIDES[3])
    assert sides[5] == (SIDES[3], SIDES[0])
    expected = torch.tensor([[0, -1.574], [-1.574, 0], [0, -1.574], [-0.394, -1.967]])
    torch.testing.assert_close(found[:4], expected, atol=2e-3, rtol=0)
    assert (found <= 1e-3).all()


def test_from_above_nothing_is_pushed_away() -> None:
    _, found = other_sides(torch.tensor([120.0, 120.0]), torch.tensor([80.0, 60.0]))
    assert found[0].tolist() == [0, 0]
    torch.testing.assert_close(found[1], other_sides(torch.tensor([120.0]), torch.zeros(1))[1][0] / 2)


def test_perp_neg_mixes_and_names_the_others() -> None:
    asked = Prompter(Letters())("a cat", "", cameras([45, 135], elevation=0), perp_neg=True)
    torch.testing.assert_close(
        asked.condition.tokens[0, 0, :5], torch.tensor([0.5, 0.5, 0, 0, 0]), atol=1e-5, rtol=0
    )
    assert asked.others is not None and len(asked.others.conditions) == 2
    first, second = (condition.tokens[:, 0, :5].argmax(1).tolist() for condition in asked.others.conditions)
    assert (first, second) == ([0, 1], [1, 0])
    assert asked.others.weights.shape == (2, 2)
