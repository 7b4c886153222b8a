"""The line of runs: one after another, each a process of its own, and what is said of those that end badly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rfgs.errors import UserError
from rfgs.viewer.studio.line import MOST_WAITING, WAITING, Line, last_words
from rfgs.viewer.studio.wishes import Wish
from tests.viewer.studio.fake_rfgs import END, PLAIN, STEPS


def wait_until(fine: Callable[[], Any], timeout: float = 300.0) -> None:
    deadline = time.monotonic() + timeout
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refuses(noted: Any) -> Wish:
    raise UserError("nothing is taken")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path, PLAIN)
    line.start(refuses)
    yield line
    line.close()


def test_one_after_another(line: Line, tmp_path: Path) -> None:
    line.add(Wish("", "a cube"))
    second, third = line.add(Wish("", "a cube")), line.add(Wish("", "a ball"))
    wait_until(lambda: line.work and line.work.steps)
    assert line.work is not None and line.work.wish.name == "a-cube-0"
    assert line.work.steps == (7, STEPS) and line.work.address == "http://127.0.0.1:1/?token=x"
    assert line.is_at_work_in(tmp_path / "a-cube-0")
    # Each has a name of its own while it waits.
    assert [(number, wish.name) for number, wish in line.waiting] == [
        (second, "a-cube-0-2"),
        (third, "a-ball-0"),
    ]
    with pytest.raises(UserError, match="already running or waiting"):
        line.add(Wish("a-ball-0", "a ball", resumes=True))
    line.cancel(second)
    (tmp_path / END).write_text("a cube")
    wait_until(lambda: line.work and line.work.wish.name == "a-ball-0")
    assert line.waiting == [] and line.ended == []
    assert json.loads((tmp_path / "a-cube-0" / "run.json").read_text())["state"] == "finished"
    (tmp_path / END).write_text("a cube, a ball")
    wait_until(lambda: line.work is None)
    line.add(Wish("", "a cube"))  # Over no folder that is there.
    wait_until((tmp_path / "a-cube-0-2" / "run.json").exists)


def test_a_process_that_is_killed_ends_its_run_only(line: Line, tmp_path: Path) -> None:
    line.add(Wish("", "a cube"))
    line.add(Wish("", "a ball"))
    wait_until(lambda: line.work and line.work.steps)
    assert line.work is not None
    line.work.process.kill()
    wait_until(lambda: line.work and line.work.wish.prompt == "a ball" and line.work.steps)
    (ended,) = line.ended
    assert ended.in_folder and ended.wish.name == "a-cube-0" and "SIGKILL" in ended.words
    line.add(Wish("a-cube-0", "a cube", resumes=True))  # Going on takes the news away.
    assert line.ended == []
    (tmp_path / END).write_text("a cube, a ball")
    wait_until(lambda: line.work is None and not line.waiting)


def test_what_fails_says_why(line: Line) -> None:
    line.add(Wish("", "nothing"))
    wait_until(lambda: line.ended)
    (ended,) = line.ended
    assert ended.words == "It failed: the disk is full; free some space" and not ended.in_folder
    line.cancel(ended.number)
    assert line.ended == []


def test_stop_asks_the_process(line: Line) -> None:
    number = line.add(Wish("", "a cube"))
    wait_until(lambda: line.work and line.work.steps)
    line.stop(number + 1, 0)
    line.stop(number, 1)
    assert line.work is not None and line.work.stops == 0
    line.stop(number, 0)
    line.stop(number, 0)  # As another browser does at the same moment, which means no more than that.
    assert line.work is None or line.work.stops == 1
    wait_until(lambda: line.work is None)
    assert (
        "SIGINT" in line.ended[0].words
        or "stopped" in line.ended[0].words
        or "KeyboardInterrupt" in line.ended[0].words
    )


def test_what_waits_is_known_to_the_next_studio(tmp_path: Path) -> None:
    taken = Wish("", "a ball", quality="draft", seed=3)
    first = Line(tmp_path, PLAIN)  # Not started: all wait.
    first.add(taken)
    first.add(Wish("", "a cone", quality="draft", seed=3, start="a-ball-3"))
    assert first.starts_from("a-ball-3") and not first.starts_from("a-cone-3")
    first.add(Wish("old", "old one", resumes=True, steps=9))
    second = Line(tmp_path, PLAIN)
    second._thread.start = lambda: None  # type: ignore[method-assign]
    second.start(lambda noted: Wish("", noted["prompt"], quality=noted["quality"], seed=noted["seed"]))
    assert [wish.as_dict() for _, wish in second.waiting] == [wish.as_dict() for _, wish in first.waiting]
    second.cancel(1)
    second.cancel(2)
    second.cancel(3)
    assert not (tmp_path / WAITING).exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "[3, null, {}]",
        '[{"name": "../x", "prompt": "a", "resumes": true}]',
        '[{"name": 3, "resumes": true}]',
    ],
)
def test_a_damaged_note_of_what_waits_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / WAITING).write_text(text)
    line = Line(tmp_path, PLAIN)
    line.start(refuses)
    assert line.waiting == []
    line.close()


@pytest.mark.parametrize("start", ["../x", "/etc", ".."])
def test_a_note_of_what_waits_leads_nowhere_else(tmp_path: Path, start: str) -> None:
    (tmp_path / WAITING).write_text(json.dumps([{"name": "", "prompt": "a cube", "start": start}]))
    line = Line(tmp_path, PLAIN)
    line._thread.start = lambda: None  # type: ignore[method-assign]
    line.start(lambda noted: Wish("", noted["prompt"]))
    assert line.waiting == []


def test_the_line_is_bounded(tmp_path: Path) -> None:
    line = Line(tmp_path, PLAIN)
    for _ in range(MOST_WAITING):
        line.add(Wish("", "a cube"))
    with pytest.raises(UserError, match="wait already"):
        line.add(Wish("", "a cube"))


def test_last_words() -> None:
    assert last_words(0, ["whatever"]) == ""
    assert "memory" in last_words(-9, []) and "memory" not in last_words(-15, [])
    assert last_words(130, []) == "It was stopped before there was anything to write."
    assert last_words(1, ["Traceback", "ValueError: x"]) == "It failed: ValueError: x"
    assert last_words(2, ["rfgs: no", "more"]) == "It failed: no"
    assert last_words(1, []) == "It failed: it said nothing"
