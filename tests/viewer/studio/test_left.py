"""A studio that is killed outright: its run goes on, and the next studio takes it up with its live page."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rfgs.runs import holding
from rfgs.runs.folders import PAUSED
from rfgs.viewer.studio.left import AT_WORK, Left, found, note
from rfgs.viewer.studio.line import Work
from rfgs.viewer.studio.wishes import Wish
from tests.viewer.chromium import Chromium
from tests.viewer.studio.fake_rfgs import END, STEPS, WITH_PAGE, opened
from tests.viewer.studio.test_line import wait_until
from tests.viewer.studio.test_server import ask, state

FIRST = """
import sys, threading
from pathlib import Path
from rfgs.viewer.studio import Studio
from rfgs.viewer.studio.wishes import Wish
studio = Studio(Path(sys.argv[1]), sys.argv[2:], port=0)
for prompt in ("a cube", "a ball"):
    studio._line.add(Wish("", prompt))
threading.Event().wait()
"""


def noted(place: Path) -> dict[str, Any]:
    try:
        return json.loads((place / AT_WORK).read_text())
    except OSError:
        return {}


def holder(folder: Path) -> str:
    file = folder / holding.HOLDER
    return file.read_text() if file.exists() else ""


def test_the_next_studio_takes_up_the_run_that_was_left(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", FIRST, str(tmp_path), *WITH_PAGE])
    try:
        wait_until(
            lambda: noted(tmp_path).get("address") and (tmp_path / "a-cube-0" / holding.HOLDER).exists()
        )
    finally:
        first.kill()
        first.wait()
    pid = noted(tmp_path)["pid"]
    assert stat.S_IMODE((tmp_path / AT_WORK).stat().st_mode) == 0o600  # It lets in who reads it.
    with opened(tmp_path) as studio:
        work = studio._line.work
        assert work is not None and isinstance(work.process, Left) and work.process.pid == pid
        told = state(studio)
        (run,) = told["runs"]
        assert (run["state"], run["prompt"]) == ("running", "a cube") and told["now"]["run"] == run["id"]
        assert told["now"]["left"] and told["now"]["steps"] == [0, STEPS]  # By its record.
        # What waited waits on, and the run's own page is shown again.
        assert [wish["prompt"] for wish in told["waiting"]] == ["a ball"]
        status, page, _ = ask(studio, told["now"]["page"])
        assert status == 200 and b"iser" in page
        assert ask(studio, "/delete", {"run": run["id"]})[0] == 422
        assert ask(studio, "/stop", {"number": told["now"]["number"], "stops": 0})[0] == 200
        wait_until(lambda: studio._line.work is not None and studio._line.work.wish.prompt == "a ball")
        wait_until(lambda: noted(tmp_path).get("wish", {}).get("prompt") == "a ball")
        (tmp_path / END).write_text("a cube, a ball")
        wait_until(lambda: studio._line.work is None)
        assert not (tmp_path / AT_WORK).exists()


TOLD = "document.querySelector('#waiting small')?.innerText"
"""Of the run at work, in the list of what comes next."""


def test_a_paused_run_that_was_left_is_let_go_on_or_ended(tmp_path: Path, browser: Chromium) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", FIRST.replace("a cube", "a paused cube"), str(tmp_path), *WITH_PAGE]
    )
    folder = tmp_path / "a-paused-cube-0"
    try:
        wait_until(lambda: noted(tmp_path).get("address") and (folder / PAUSED).exists())
    finally:
        first.kill()
        first.wait()
    with opened(tmp_path) as studio:
        browser.open(studio.url)
        browser.wait_for(f"{TOLD} === 'paused'")
        assert browser.out_of_place() == []
        high = "[...document.querySelectorAll('#waiting button')].map(e => e.clientHeight)"
        assert max(browser.evaluate(high)) < 45  # Each in one line.
        assert state(studio)["now"]["paused"]
        browser.click_element("document.querySelector('#waiting button')")  # Go on.
        wait_until(lambda: not (folder / PAUSED).exists())
        browser.wait_for(f"{TOLD} === 'past step 0 of {STEPS}'")
        assert not state(studio)["now"]["paused"]
        (tmp_path / END).write_text("a paused cube, a ball")  # It is on its way again, and so looks for that.
        wait_until(lambda: studio._line.work is not None and studio._line.work.wish.prompt == "a ball")
        assert json.loads((folder / "run.json").read_text())["state"] == "finished"
    with opened(tmp_path) as studio:
        studio._line.add(Wish("", "a paused ball"))
        folder = tmp_path / "a-paused-ball-0"
        wait_until((folder / PAUSED).exists)
        browser.open(studio.url)
        browser.wait_for(f"{TOLD} === 'paused'")
        assert browser.evaluate("!document.getElementById('onward').hidden")
        browser.click_element("document.querySelectorAll('#waiting button')[1]")  # Stop.
        wait_until(lambda: studio._line.work is None)
        assert json.loads((folder / "run.json").read_text())["state"] == "stopped"
        assert not (folder / PAUSED).exists()


@pytest.fixture
def held(tmp_path: Path) -> Any:
    """A folder that another process has, and that process."""
    (tmp_path / "x").mkdir()
    code = "import sys; from pathlib import Path; from rfgs.runs.holding import hold; hold(Path(sys.argv[1])); input()"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")], stdin=subprocess.PIPE)
    wait_until(lambda: holder(tmp_path / "x"))
    yield process
    process.kill()
    process.wait()


def test_only_a_run_that_is_still_at_work_is_found(tmp_path: Path, held: subprocess.Popen[bytes]) -> None:
    wish = Wish("x", "a cube").as_dict()
    assert found(tmp_path) is None  # Nothing is noted.
    note(tmp_path, wish, held.pid, "http://127.0.0.1:1/?token=x")
    told = found(tmp_path)
    assert told is not None and told[0] == wish and told[2] == "http://127.0.0.1:1/?token=x"
    note(tmp_path, wish, os.getpid(), None)  # Another process has the folder now.
    assert found(tmp_path) is None
    note(tmp_path, {**wish, "name": "../x"}, held.pid, None)
    assert found(tmp_path) is None
    note(tmp_path, wish, held.pid, None)
    held.kill()
    held.wait()
    assert found(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "3", "{}", '{"wish": 3, "pid": 1, "address": null}', '{"wish": {"name": 1}']
)
def test_a_damaged_note_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / AT_WORK).write_text(text)
    assert found(tmp_path) is None


def test_only_the_process_that_has_the_folder_is_told(tmp_path: Path, held: subprocess.Popen[bytes]) -> None:
    Left(tmp_path / "x", os.getpid()).send_signal(signal.SIGTERM)  # Else this would be the end of the test.
    assert held.poll() is None
    process = Left(tmp_path / "x", held.pid)
    process.send_signal(signal.SIGTERM)
    assert held.wait(60) == -signal.SIGTERM and process.wait() == 0
    assert Work(1, Wish("x", "a"), tmp_path / "x", process).steps is None
