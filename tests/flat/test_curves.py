"""The curve's pixels are where its values say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rfgs.flat.curves import DARK, moving_average, write_curve


def dark(path: Path) -> np.ndarray:
    """Places of dark pixels, [N, 2]: row and column."""
    return np.argwhere((np.asarray(Image.open(path).convert("RGB")) == DARK).all(-1))


def test_a_line_falls_from_corner_to_corner(tmp_path: Path) -> None:
    write_curve(tmp_path / "a.png", [3.0, 2.0, 1.0], "loss")
    rows, columns = dark(tmp_path / "a.png").T
    straight = np.interp(columns, [columns.min(), columns.max()], [rows.min(), rows.max()])
    assert np.abs(rows - straight).max() < 4
    assert columns.max() - columns.min() > 400 and rows.max() - rows.min() > 150


def test_gaps_and_curves_without_a_curve(tmp_path: Path) -> None:
    write_curve(tmp_path / "a.png", [1.0, 1.0, math.nan, 1.0, 1.0], "gap")
    columns = np.unique(dark(tmp_path / "a.png")[:, 1])
    gap = np.diff(columns).max()
    assert gap == pytest.approx((columns.max() - columns.min()) / 2, rel=0.05)
    for values in ([], [math.inf], [2.0]):
        write_curve(tmp_path / "a.png", values, "nothing")
        assert Image.open(tmp_path / "a.png").size == (640, 320)


def test_moving_average() -> None:
    assert moving_average([1, 3, 5, 7], 2) == [1, 2, 4, 6]
    assert moving_average([1, math.nan, 3], 2) == [1, 1, 3]
    assert math.isnan(moving_average([math.nan], 3)[0])
