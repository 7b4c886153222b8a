"""Opens a page in the user's browser, where there is somebody to see it."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress


def somebody_looks() -> bool:
    """Whether this is a terminal, not one at the other end of a line, with a display for a browser's window."""
    if not sys.stderr.isatty():
        return False
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_page(url: str, *, looks: Callable[[], bool] = somebody_looks) -> bool:
    """Open `url` if somebody looks; whether a browser was told to. That there is none is no problem: the address is printed."""
    with suppress(webbrowser.Error, OSError):
        return looks() and webbrowser.open(url)
    return False
