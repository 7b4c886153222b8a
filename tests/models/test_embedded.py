"""Where the files that come with rfgs are found, and what is said where they are not."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from rfgs.cli.main import main
from rfgs.models import embedded
from rfgs.models.about import about


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed rfgs-models that holds the folders "tiny-sd3" and "other"."""
    for name in ("tiny-sd3", "other"):
        (tmp_path / "rfgs_models" / name).mkdir(parents=True)
    (tmp_path / "rfgs_models" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return tmp_path / "rfgs_models"


def test_the_package_of_its_own_is_looked_into_last(beside: Path) -> None:
    assert embedded.folder("other") == beside / "other"
    own = embedded.folder("tiny-sd3")
    assert own != beside / "tiny-sd3" and (own / "model_index.json").is_file()


def test_tiny_sd3_has_no_place_for_t5() -> None:
    """0 is a number: without it 256 empty tokens would be read with every prompt, which the weights have never seen."""
    assert about(embedded.folder("tiny-sd3")).max_sequence_length == 0


@pytest.fixture
def none_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rfgs as its wheel has it, without rfgs-models."""
    there = embedded.folder
    monkeypatch.setattr(
        embedded, "folder", lambda name: tmp_path / name if name in embedded.BESIDE else there(name)
    )


INSTALL = "install them with `pip install 'rfgs[models]'`"


@pytest.mark.parametrize(
    ("arguments", "whose"),
    [
        (["generate", "a mug", "--backend", "tiny-sd"], "--backend tiny-sd: its"),
        (["image", "a mug", "--backend", "tiny-instaflow"], "--backend tiny-instaflow: its"),
        (["bench", "--columns", "tiny-sd:sds", "--prompts", "1"], "--backend tiny-sd: its"),
        (["bench", "--columns", "tiny-sd3:rfds", "--prompts", "1"], "the scorer's"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_model_that_is_not_installed_is_one_line(
    arguments: list[str],
    whose: str,
    none_beside: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"rfgs: {whose} files are not installed; {INSTALL}\n"
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_doctor_says_what_is_not_installed(none_beside: None, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    said = capsys.readouterr().out
    assert "tiny-sd3: ready" in said and f"tiny-sd: not installed; {INSTALL}" in said
