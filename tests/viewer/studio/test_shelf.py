"""What is told of folders of runs, whatever is in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rfgs.errors import UserError
from rfgs.runs import claims
from rfgs.viewer.studio.shelf import Shelf, id_of


def run_in(folder: Path, **record: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"state": "finished", "job": {"prompt": "a cube"}, **record}))
    return folder


def test_what_a_run_says_of_itself_is_shown(tmp_path: Path) -> None:
    job = {"prompt": "a <b>cube", "model": "tiny-sd3", "quality": "draft", "seed": 7}
    folder = run_in(
        tmp_path / "a", job=job, steps_done=5, config={"steps": 9}, seconds={"prior": 1.5, "render": 2}
    )
    (run,) = Shelf(tmp_path).runs()
    assert (run.prompt, run.seed, run.done, run.steps, run.seconds) == ("a <b>cube", "7", 5, 9, 3.5)
    assert (run.id, run.name, run.has_splats, run.picture, run.goes_on) == (
        id_of(folder),
        "a",
        False,
        "",
        False,
    )


def test_the_newest_picture_is_the_one(tmp_path: Path) -> None:
    folder = run_in(tmp_path / "a")
    (folder / "previews").mkdir()
    shelf = Shelf(tmp_path)
    for name in ("previews/step-000002.png", "previews/step-000010.png", "turntable.png"):
        before = shelf.runs()[0].picture
        (folder / name).write_bytes(b"x")
        assert shelf.picture(folder) == folder / name and shelf.runs()[0].picture != before


def test_whose_process_is_gone_is_told_from_one_at_work_elsewhere(tmp_path: Path) -> None:
    folder = run_in(tmp_path / "a", state="running")
    assert Shelf(tmp_path).runs()[0].state == "gone" and Shelf(tmp_path).runs()[0].goes_on
    assert Shelf(tmp_path, lambda one: one == folder).runs()[0].state == "running"
    code = "import sys, pathlib as p; from rfgs.runs.holding import hold; hold(p.Path(sys.argv[1])); print(1); input()"
    with subprocess.Popen(
        [sys.executable, "-uc", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "1\n"
        assert Shelf(tmp_path).runs()[0].state == "elsewhere"
        other.kill()
    assert Shelf(tmp_path).runs()[0].state == "gone"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "[]",
        "{}",
        '{"job": 3, "config": [], "seconds": {"a": "b"}, "steps_done": -1}',
        "[" * 100_000,
    ],
)
def test_damaged_records_end_nothing(tmp_path: Path, text: str) -> None:
    run_in(tmp_path / "good")
    run_in(tmp_path / "bad")
    (tmp_path / "bad" / "run.json").write_text(text)
    assert "good" in [run.name for run in Shelf(tmp_path).runs()]


def test_names_that_are_no_text_and_folders_of_others(tmp_path: Path) -> None:
    run_in(tmp_path / "\udcff")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(run_in(tmp_path / "elsewhere" / "run"))
    (run,) = Shelf(tmp_path).runs()
    json.dumps(run.as_dict()).encode()
    assert run.name == "?" and Shelf(tmp_path).folder(run.id).name == "\udcff"
    for id in ("../elsewhere/run", "", None, ["x"], "link"):
        with pytest.raises(UserError):
            Shelf(tmp_path).folder(id)
    assert Shelf(tmp_path / "absent").runs() == []


def test_a_run_is_removed_with_its_own_files_only(tmp_path: Path) -> None:
    folder = run_in(tmp_path / "a")
    (folder / "previews").mkdir()
    (folder / "previews" / "step-000002.png").touch()
    assert claims.remove_run(folder) == 0 and not folder.exists()
    mine = run_in(tmp_path / "b") / "notes.txt"
    mine.touch()
    assert claims.remove_run(mine.parent) == 1 and mine.exists() and not (mine.parent / "run.json").exists()
