"""The page of a command: there unless it is not wanted, and no reason for a run to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rfgs.cli.generate import Generate
from rfgs.errors import UserError
from rfgs.runs.job import Job


def test_a_machine_without_a_network_makes_assets(monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(host: str, port: int, **_: Any) -> None:
        raise UserError(f"viewer: cannot listen on host {host!r}")

    monkeypatch.setattr("rfgs.viewer.Viewer", unable)
    said: list[str] = []
    assert Generate("x")._viewer(Job("x"), Path("x"), said.append) is None
    assert said == ["no page: viewer: cannot listen on host '127.0.0.1'"]
    with pytest.raises(UserError):  # Whoever names an address wants to be reachable there.
        Generate("x", host="0.0.0.0")._viewer(Job("x"), Path("x"), said.append)


def test_the_page_of_a_command_is_where_it_was_asked_for() -> None:
    viewer = Generate("x", port=0)._viewer(Job("x"), Path("x"), print)
    assert viewer is not None
    with viewer:
        assert viewer.url.startswith("http://127.0.0.1:")
