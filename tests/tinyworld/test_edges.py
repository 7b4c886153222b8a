"""Edges: what blur, a mean of several pictures, fraying and shifts do to them, against what they do to the other figures."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from rfgs.tinyworld import truth as truth_module
from rfgs.tinyworld.edges import REACH, STEEP, shared_edges, steepness
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.shapes import cameras_at, rows_at, shape_of, traced
from rfgs.tinyworld.tracer import painted
from rfgs.tinyworld.truth import SIZE, Truth, measure_views


def square(size: int, at: int = 20, brightness: float = 1.0) -> np.ndarray:
    """A picture [1, 64, 64, 3] of a square on black."""
    picture = np.zeros((1, 64, 64, 3))
    picture[:, at : at + size, at : at + size] = brightness
    return picture


def blurred(picture: np.ndarray, times: int) -> np.ndarray:
    """Each time the mean of five pixels across and of five down."""
    for _ in range(times):
        for axis in (1, 2):
            picture = np.mean([np.roll(picture, shift, axis) for shift in range(-2, 3)], axis=0)
    return picture


def test_steepness_is_the_slope_of_the_colors() -> None:
    ramp = np.zeros((1, 8, 8, 3))
    ramp[..., 0], ramp[..., 1] = np.arange(8) * 0.03, np.arange(8)[:, None] * 0.04
    assert steepness(ramp).numpy() == pytest.approx(np.full((1, 6, 6), 0.05), abs=1e-6)


def test_the_same_has_all_and_blank_pictures_share_all_of_nothing() -> None:
    blank = np.full((2, 64, 64, 3), 0.5)
    assert shared_edges(square(20), square(20)) == 1 and shared_edges(blank, blank) == 1
    assert shared_edges(blank[:1], square(20)) == 0 == shared_edges(square(20), blank[:1])


def test_a_shift_within_reach_changes_nothing_and_one_beyond_does() -> None:
    assert shared_edges(square(20), square(20, at=20 + REACH - 1)) > 0.99
    assert shared_edges(square(20), square(20, at=20 + REACH + 4)) < 0.7


def test_half_as_steep_is_there_and_less_is_not() -> None:
    assert shared_edges(square(20), square(20, brightness=0.51)) == 1
    assert shared_edges(square(20), square(20, brightness=0.3)) == 0
    assert 0.3 / 2 * 3**0.5 > STEEP  # It has edges of its own, which the other has too.


def test_blur_loses_edges_and_a_pattern_that_is_not_there_costs_as_much_as_one_that_is_missing() -> None:
    sharp = square(30)
    found = [shared_edges(blurred(sharp, times), sharp) for times in range(4)]
    assert found == sorted(found, reverse=True) and found[0] == 1 and found[3] < 0.1
    dotted = sharp.copy()
    dotted[:, 30:34, 30:34] = 0
    assert 0.7 < shared_edges(dotted, sharp) < 0.95
    assert shared_edges(dotted, sharp) == shared_edges(sharp, dotted)


def turned(prompt: str, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [8, 128, 128, 3] over mid grey and alphas of what a prompt names, turned about its axis."""
    scene = parse(prompt).looks()[0]
    views = [(azimuth + degrees, elevation) for azimuth, elevation in truth_module.VIEWS]
    layers = traced(rows_at(shape_of(scene), 0.5), cameras_at(views, SIZE))
    return painted(layers, thing_colors(scene)) + 0.5 * (1 - layers[..., 7:]), layers[..., 7]


@pytest.fixture
def _fewer_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth of 32."""
    monkeypatch.setattr(truth_module, "VIEWS", truth_module.VIEWS[::4])
    monkeypatch.setattr(truth_module, "true_views", functools.cache(truth_module.true_views.__wrapped__))


@pytest.mark.usefixtures("_fewer_views")
@pytest.mark.parametrize("prompt", ["a house", "a cat"])
def test_the_mean_of_several_pictures_beats_a_sharp_one_by_iou_and_psnr_and_loses_by_edges(
    prompt: str,
) -> None:
    def truth(rgb: np.ndarray, alpha: np.ndarray) -> Truth:
        return measure_views(rgb, alpha > 0.5, parse(prompt).looks()[:1])

    several = [turned(prompt, degrees) for degrees in (-15, -8, 0, 8, 15)]
    sharp, mean = (
        truth(*turned(prompt, 10)),
        truth(*(np.mean(part, axis=0) for part in zip(*several, strict=True))),
    )
    assert mean.iou > sharp.iou + 0.05 and mean.psnr > sharp.psnr + 3
    assert sharp.edges > 0.95 > 0.93 > mean.edges
    assert truth(*turned(prompt, 0)).edges > 0.999
