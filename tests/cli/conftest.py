"""Ctrl-C for the tests of commands."""

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
