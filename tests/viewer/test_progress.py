"""Progress: rates, clocks, and curves that do not grow without bound."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from rfgs.viewer.progress import Progress, clock


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3723)] == ["0:00", "1:00", "1:01", "1:02:03"]


def test_curves_stay_small_and_keep_their_ends() -> None:
    progress = Progress()
    total = 10_001
    for index in range(1, total + 1):
        progress.add(index, total, torch.tensor(1.0 / index), torch.tensor(2.0 * index), index)
    steps, losses, residuals, counts = progress.curves()
    assert len(steps) <= Progress.CURVE_POINTS + 1 and len(steps) > Progress.CURVE_POINTS / 3
    assert steps[-1] == total and steps[0] <= 16 and (np.diff(steps) > 0).all()
    np.testing.assert_allclose(losses, 1 / steps, rtol=1e-6)
    np.testing.assert_allclose(residuals, 2 * steps)
    np.testing.assert_array_equal(counts, steps)


def test_curves_read_what_is_new_in_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    for name in ("tolist", "item", "__float__", "cpu"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, real=real: looks.append(tuple(self.shape)) or real(self)
        )
    progress = Progress()
    for index in range(1, 1001):
        progress.add(index, 2000, torch.tensor(1.0 / index), torch.tensor(2.0), 5)
    progress.curves()
    assert looks == [(1000, 2)]
    progress.add(1001, 2000, torch.tensor(7.0), torch.tensor(8.0), 5)
    _, losses, residuals, _ = progress.curves()
    assert looks == [(1000, 2), (1, 2)]
    assert (losses[-1], residuals[-1], losses[3], residuals[3]) == (7.0, 8.0, 0.25, 2.0)
    progress.curves()
    assert len(looks) == 2


def test_pauses_do_not_count() -> None:
    progress = Progress()
    progress.add(1, 10, torch.tensor(0.0), torch.tensor(0.0), 5)
    progress._start -= 2.0  # As if 2 s had passed.
    progress.hold()
    time.sleep(0.3)
    held = progress.elapsed()
    time.sleep(0.3)
    assert progress.elapsed() == held < 2.25  # The clock stands still during a pause, not only after it.
    progress.go_on()
    progress.add(2, 10, torch.tensor(0.0), torch.tensor(0.0), 5)
    assert held <= progress.elapsed() < held + 0.25
    assert 0.4 < progress.rate < 0.6
    assert progress.rows()["ETA"] in ("0:16", "0:17") and progress.percent == 20


def test_rows_before_the_first_step() -> None:
    assert Progress().rows()["step"] == "preparing"
