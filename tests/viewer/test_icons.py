"""Icons come from an archive that is opened once, as viser itself would read them."""

from __future__ import annotations

import zipfile

import pytest
from viser import _icons

from rfgs.viewer import icons


def test_the_archive_is_opened_once_for_all_icons(monkeypatch: pytest.MonkeyPatch) -> None:
    names, read = ("check", "player-pause"), _icons.svg_from_icon.__wrapped__
    monkeypatch.setattr(_icons, "zipfile", zipfile)
    own = [read(name) for name in names]
    opened = []
    monkeypatch.setattr(
        icons.zipfile, "ZipFile", lambda path, kind=zipfile.ZipFile: opened.append(path) or kind(path)
    )
    icons.read_once.__wrapped__()
    assert [read(name) for name in names] == own and len(opened) == 1
