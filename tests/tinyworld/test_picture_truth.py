"""The truth of pictures: the world's own, moved, recolored and over other backgrounds, against what was done to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rfgs.tinyworld.album import Grid
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.picture_truth import measure_picture
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.shapes import cameras_at, rows_at, traced

SMALL = Grid(elevations=(5, 20, 65), fractions=(0.5,))
FEW = Grid(azimuths=12, elevations=(10, 20), fractions=(0.5,))
"""For pictures that are seen from one of its views."""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("RFGS_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def picture(prompt: str, view: tuple[float, float], behind: tuple[float, ...], look: int = 0) -> torch.Tensor:
    """[3, 128, 128], of the size in the middle of its range."""
    scene = parse(prompt).looks()[look]
    layers = traced(rows_at(scene, 0.5), cameras_at([view], 128))[0]
    rgb = layers[..., :4] @ thing_colors(scene) + layers[..., 4:7] + np.array(behind) * (1 - layers[..., 7:])
    return torch.from_numpy(rgb).float().permute(2, 0, 1)


def test_the_worlds_own_pictures_are_true_between_the_grids_views_too() -> None:
    for view, word in (
        ((31.0, 8.0), "front view"),
        ((100.0, 22.0), "left side view"),
        ((20.0, 70.0), "overhead view"),
    ):
        found = measure_picture(picture("a red duck", view, (0.2, 0.4, 0.3)), f"a red duck, {word}", SMALL)
        assert found.iou > 0.93 and found.psnr > 20 and found.decisiveness is None


def test_another_side_another_thing_and_nothing_are_not() -> None:
    duck = picture("a red duck", (0.0, 10.0), (0.5,) * 3)
    assert measure_picture(duck, "a red duck, front view", FEW).iou > 0.95
    assert measure_picture(duck, "a red duck, left side view", FEW).iou < 0.85
    assert measure_picture(duck, "a blue duck", FEW).psnr < 15
    nothing = measure_picture(torch.full((3, 128, 128), 0.5), "a red duck", FEW)
    assert nothing.iou == 0


def test_the_look_of_an_open_prompt_is_found_and_a_mixture_told() -> None:
    looks = parse("a mug").looks()
    blue = measure_picture(picture("a mug", (30.0, 20.0), (0.8,) * 3, 2), "a mug, front view", FEW)
    assert blue.look == looks[2] and blue.decisiveness is not None and blue.decisiveness > 0.95
    views = [picture("a mug", (30.0, 20.0), (0.8,) * 3, i) for i in range(len(looks))]
    mixture = measure_picture(torch.stack(views).mean(0), "a mug, front view", FEW)
    assert mixture.iou > 0.9 and mixture.decisiveness is not None and mixture.decisiveness < 0.1


def test_white_on_white_is_left_out_of_the_silhouette() -> None:
    found = measure_picture(picture("a white cube", (30.0, 20.0), (0.8,) * 3), "a white cube", FEW)
    assert found.iou > 0.95
