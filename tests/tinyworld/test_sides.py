"""Whether views look like the side that they show: on true views, turned, repeated, mixed and alike from all around."""

from __future__ import annotations

import numpy as np
import pytest

from rfgs.tinyworld.language import parse
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.shapes import shape_of
from rfgs.tinyworld.sides import janus, visible_parts
from rfgs.tinyworld.truth import RING, true_views


def ring(prompt: str, behind: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [16, 128, 128, 3] all around, and what they show."""
    scene = parse(prompt).looks()[0]
    layers = true_views(shape_of(scene))[0][2][:RING] / 255.0
    rgb = layers[..., :4] @ thing_colors(scene) + layers[..., 4:7] + behind * (1 - layers[..., 7:])
    return rgb, visible_parts(layers)


@pytest.mark.parametrize("prompt", ["a red house", "a striped red mug"])
def test_sides_are_told(prompt: str) -> None:
    true, parts = ring(prompt)
    assert janus(true, true, parts) == 0
    assert janus(np.roll(true, 1, axis=0), true, parts) == 0  # By 22.5 degrees.
    assert janus(np.roll(true, 4, axis=0), true, parts) == 1
    # All but the five views that the front is within 60 degrees of.
    assert janus(np.repeat(true[:1], RING, axis=0), true, parts) == 11 / 16
    assert janus(np.repeat(true.mean(axis=0, keepdims=True), RING, axis=0), true, parts) == 0
    # Errors that have nothing to do with sides change nothing.
    noise = 0.1 * np.random.default_rng(0).standard_normal(true.shape)
    assert janus(true + noise, true, parts) == 0 and janus(np.roll(true, 4, axis=0) + noise, true, parts) == 1


def test_one_side_that_is_wrong_is_one_view() -> None:
    true, parts = ring("a red house")
    changed = true.copy()
    changed[8] = true[0]
    assert janus(changed, true, parts) == 1 / 16


def test_a_mixture_of_two_sides_is_neither_until_one_is_clearly_there() -> None:
    true, parts = ring("a red house")
    back = np.roll(true, 8, axis=0)
    assert janus(0.5 * true + 0.5 * back, true, parts) == 0
    assert janus(0.1 * true + 0.9 * back, true, parts) == 1


def test_what_looks_alike_from_all_around_has_no_such_figure() -> None:
    true, parts = ring("a white sphere")
    assert not np.allclose(true[0], true[8], atol=0.1)  # Light falls from one side.
    assert janus(true, true, parts) is None


def test_what_a_pixel_shows() -> None:
    layers = np.zeros((1, 1, 5, 8))
    layers[0, 0, 1] = [0.2, 0.7, 0, 0, 0, 0, 0, 1]  # Two colors, mostly the second.
    layers[0, 0, 2] = [0, 0, 0, 0.5, 0, 0, 0, 0.6]
    layers[0, 0, 3] = [0, 0, 0, 0, 0.05, 0.05, 0.05, 1]  # Of its own color, such as an eye.
    layers[0, 0, 4] = [0.4, 0, 0, 0, 0, 0, 0, 0.4]  # Mostly what is behind.
    assert visible_parts(layers).tolist() == [[[0, 2, 4, 5, 0]]]
