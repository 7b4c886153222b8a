"""A clock that counts its readings: the training follows wall time, and its tests must not."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """`time.time()` of the two trainings goes on by one second at each reading, and each step reads it once."""
    ticks = itertools.count()
    fake = SimpleNamespace(time=lambda: float(next(ticks)))
    monkeypatch.setattr("rfgs.tinyworld.vae.time", fake)
    monkeypatch.setattr("rfgs.tinyworld.prior.time", fake)
