"""The curve's pixels are where its values say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from rfgs.flat.curves import BOTTOM, DARK, HEIGHT, LEFT, RIGHT, TOP, WIDTH, moving_average, write_curve


def dark_rows(path: Path, column: int) -> np.ndarray:
    pixels = np.asarray(Image.open(path))
    return np.flatnonzero((pixels[:, column] == DARK).all(-1))


def test_a_line_falls_from_corner_to_corner(tmp_path: Path) -> None:
    write_curve(tmp_path / "a.png", [3.0, 2.0, 1.0], "loss")
    middle = (LEFT + WIDTH - RIGHT) // 2
    for column, row in (
        (LEFT + 2, TOP),
        (middle, (TOP + HEIGHT - BOTTOM) / 2),
        (WIDTH - RIGHT - 2, HEIGHT - BOTTOM),
    ):
        rows = dark_rows(tmp_path / "a.png", column)
        assert len(rows) and abs(rows.mean() - row) < 4


def test_gaps_and_curves_without_a_curve(tmp_path: Path) -> None:
    write_curve(tmp_path / "a.png", [1.0, 1.0, math.nan, 1.0, 1.0], "gap")
    middle = (LEFT + WIDTH - RIGHT) // 2
    assert len(dark_rows(tmp_path / "a.png", middle)) == 0 and len(dark_rows(tmp_path / "a.png", LEFT + 9))
    for values in ([], [math.inf], [2.0]):
        write_curve(tmp_path / "a.png", values, "nothing")
        assert Image.open(tmp_path / "a.png").size == (WIDTH, HEIGHT)


def test_moving_average() -> None:
    assert moving_average([1, 3, 5, 7], 2) == [1, 2, 4, 6]
    assert moving_average([1, math.nan, 3], 2) == [1, 1, 3]
    assert math.isnan(moving_average([math.nan], 3)[0])
