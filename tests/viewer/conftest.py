"""Fixtures for the viewer's tests; those that take `browser` are skipped where there is no Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.viewer.chromium import EXECUTABLE, Chromium


@pytest.fixture(scope="session")
def shared_browser() -> Iterator[Chromium]:
    if EXECUTABLE is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with Chromium(coarse=True) as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Chromium) -> Iterator[Chromium]:
    """A browser with an empty page, shared by the tests because it takes a second to start."""
    yield shared_browser
    shared_browser.open("about:blank")
