"""The truth against closed forms: a sphere's silhouette, errors pixel by pixel, mixtures, and splats fitted to a scene."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rfgs.distill import DistillConfig
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV
from rfgs.splats import ball
from rfgs.tinyworld import truth
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.scenes import PAINTS, Scene, Thing
from rfgs.tinyworld.shapes import by_shape, rows_at, shape_of
from rfgs.tinyworld.truth import SIZE, VIEWS, SquaredErrors, measure, measure_views, true_views

SPHERE = Scene((Thing("sphere", "white"),))
RADIUS = float(rows_at(SPHERE, 0.5)[0, 13])


def disc(radius: float) -> np.ndarray:
    """Silhouettes [32, 128, 128] of a ball at the target: a disc whose edge is where rays touch it."""
    focal = SIZE / 2 / math.tan(math.radians(DEFAULT_FOV / 2))
    edge = focal * math.tan(math.asin(radius / DEFAULT_DISTANCE))
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    return np.repeat((np.hypot(x, y) < edge)[None], len(VIEWS), axis=0)


def shown(shape: Scene, colors: np.ndarray, fraction: int = 2) -> np.ndarray:
    """Pictures [32, 128, 128, 3] of a shape in colors over mid grey."""
    layers = true_views(shape)[0][fraction] / 255.0
    return layers[..., :4] @ colors + layers[..., 4:7] + 0.5 * (1 - layers[..., 7:])


def test_a_ball_has_the_silhouette_of_the_formula() -> None:
    rgb = shown(SPHERE, thing_colors(SPHERE))
    found = measure_views(rgb, disc(RADIUS), [SPHERE])
    assert found.iou > 0.98 and found.fraction == 0.5 and found.psnr > 30 and found.decisiveness is None
    low, high = (float(rows_at(SPHERE, f)[0, 13]) for f in (0.0, 1.0))
    assert RADIUS == pytest.approx((low + high) / 2)
    # Too small for any size: the area's ratio to the smallest.
    small = measure_views(rgb, disc(0.7 * low), [SPHERE])
    area = disc(0.7 * low)[0].sum() / disc(low)[0].sum()
    assert small.iou == pytest.approx(area, rel=0.02) and small.fraction == 0
    assert measure_views(rgb, np.zeros_like(disc(1)), [SPHERE]).iou == 0


def test_errors_are_those_of_pixels() -> None:
    rng = np.random.default_rng(0)
    shape = shape_of(parse("a striped red mug").looks()[0])
    colors, rgb = rng.random((4, 3)), rng.random((32, SIZE, SIZE, 3))
    inside = rng.random((32, SIZE, SIZE)) < 0.3
    inside[3] = False
    form = SquaredErrors(rgb, true_views(shape)[0][2], inside)
    squares = np.square(rgb - shown(shape, colors))
    expected = sum(squares[v][inside[v]].mean() for v in range(32) if inside[v].any()) / 32
    assert form(colors) == pytest.approx(expected, rel=1e-9)


def test_an_open_prompt_counts_its_nearest_look_and_tells_mixtures() -> None:
    looks = parse("a sphere").looks()
    assert len(looks) == 8 and list(by_shape(looks)) == [SPHERE]
    silhouette = true_views(SPHERE)[1][2]
    colors = [thing_colors(scene) for scene in looks]
    blue = measure_views(shown(SPHERE, colors[2]), silhouette, looks)
    assert blue.look.things[0].color == "blue" and blue.decisiveness == pytest.approx(1) and blue.psnr > 60
    mixture = measure_views(shown(SPHERE, np.mean(colors, axis=0)), silhouette, looks)
    assert mixture.decisiveness == pytest.approx(0, abs=1e-6) and mixture.psnr < 20
    most = measure_views(shown(SPHERE, 0.8 * colors[2] + 0.2 * np.mean(colors, axis=0)), silhouette, looks)
    assert most.look == looks[2] and most.decisiveness == pytest.approx(0.8)
    assert np.allclose(PAINTS["blue"], colors[2][0])
    assert set(most.figures()) == {"iou", "psnr", "edges", "decisiveness"}


def test_splats_fitted_to_the_truth_are_near_it_and_far_from_another() -> None:
    generator = torch.Generator().manual_seed(0)
    config = DistillConfig(steps=60, densify="none", max_splats=1000)
    splats = truth.fit_truth(
        Scene((Thing("sphere", "blue"),)),
        ball(600, 0.7, generator=generator),
        config,
        generator=generator,
        pool=16,
    )
    found = measure(splats, "a blue ball")
    assert found.iou > 0.93 and found.psnr > 20
    assert (
        found.figures().keys() == {"iou", "psnr", "edges"} and 0.3 < found.edges < 0.9
    )  # Soft after 60 steps.
    red = measure(splats, "a red sphere")
    assert red.iou == found.iou and red.psnr < 10
    assert measure(splats, "a sphere").look == Scene((Thing("sphere", "blue"),))
