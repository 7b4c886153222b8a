"""A browser is opened where somebody looks, and nothing comes of there being none."""

from __future__ import annotations

import sys
import webbrowser
from types import SimpleNamespace

import pytest

from rfgs.cli.browser import open_page, somebody_looks


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (True, {}, False),
        (False, {"DISPLAY": ":0"}, False),
    ],
)
def test_somebody_looks_at_a_terminal_with_a_display(
    terminal: bool, environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert somebody_looks() is expected


def test_the_page_is_opened_once_and_no_browser_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert open_page("http://127.0.0.1:1/", looks=lambda: True) and opened == ["http://127.0.0.1:1/"]
    assert not open_page("http://127.0.0.1:2/", looks=lambda: False) and len(opened) == 1

    def none(url: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "open", none)
    assert not open_page("http://127.0.0.1:3/", looks=lambda: True)
