"""Ctrl-C for the tests of commands, and memory for all the models that they name."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    """Shells start background jobs with SIGINT ignored, and then there is nothing to test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def memory_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded, and this machine is nobody's."""
    monkeypatch.setattr("rfgs.models.ram.available", lambda: None)
