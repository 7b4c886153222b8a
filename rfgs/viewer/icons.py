"""viser's icons, whose archive of thousands it opens anew for each; that took a fifth of a second of every run's start."""

from __future__ import annotations

import zipfile
from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any


@cache
def read_once() -> None:
    """Has viser keep its archive of icons open, as far as this viser has one."""
    try:
        from viser import _icons
    except ImportError:
        return
    opened = cache(zipfile.ZipFile)
    kept: Any = SimpleNamespace(ZipFile=lambda path: nullcontext(opened(path)))
    _icons.zipfile = kept
