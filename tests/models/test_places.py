"""Where things are kept, also for users without a home, and what others may not write to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from rfgs.models import machine, places
from rfgs.models.places import cache_folder, expanded, others_can_write


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RFGS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for known in (places._usual, places._vetted):
        known.cache_clear()


def test_the_folder_for_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "rfgs" and cache_folder().is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "rfgs"
    monkeypatch.setenv("RFGS_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
    assert expanded("~nobody-has-this/x") == Path("~nobody-has-this/x")


@pytest.mark.skipif(os.name != "posix", reason="users have numbers on POSIX only")
@pytest.mark.parametrize("home", ["~", "/proc/none"])
def test_without_a_home(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(path).replace("~", home, 1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cache_folder() == tmp_path / f"rfgs-{os.getuid()}"
    assert cache_folder().stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "~").exists()
    monkeypatch.setattr(machine, "nvcc", lambda: Path("nvcc"))
    machine.gsplat_state()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_cache_that_others_can_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("RFGS_CACHE", str(shared))
    own = cache_folder()
    assert own != shared and own.stat().st_mode & 0o777 == 0o700 and cache_folder() == own
    line = f"rfgs: the cache in {shared} is not used, since everybody can write to it; name another folder in RFGS_CACHE\n"
    assert capsys.readouterr().err == line


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_who_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    assert others_can_write(file) is None
    file.touch()
    file.chmod(0o644)
    assert others_can_write(file) is None
    file.chmod(0o666)
    assert others_can_write(file) == "everybody can write to it"
    file.chmod(0o664)
    monkeypatch.setattr(places, "_is_private", lambda group: True)
    assert others_can_write(file) is None
    monkeypatch.setattr(places, "_is_private", lambda group: False)
    assert others_can_write(file) == "its group can write to it"
    monkeypatch.setattr(os, "getuid", lambda: file.stat().st_uid + 4321)
    found = others_can_write(file)
    assert found == (
        "its group can write to it"
        if file.stat().st_uid == 0
        else f"it belongs to {places._name_of(file.stat().st_uid)}"
    )
