"""Processes that make assets, with small programs in the place of workers: in which order, tried again, stopped, killed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rfgs.runs.batch.local import LOG, Stop, run
from rfgs.runs.batch.places import Place
from rfgs.runs.batch.plan import Asset
from rfgs.runs.job import Job


def assets(tmp_path: Path, *prompts: str) -> list[Asset]:
    return [Asset(Job(prompt), tmp_path / prompt) for prompt in prompts]


def programs(text: str) -> Callable[[Asset], list[str]]:
    """Python programs that know their `folder`, `prompt` and how often they were `tried`."""
    before = (
        "import os, signal, sys, time; from pathlib import Path; folder = Path(sys.argv[1]); prompt = folder.name\n"
        "tried = int((folder / 'tried').read_text()) if (folder / 'tried').exists() else 0\n"
        "(folder / 'tried').write_text(str(tried + 1))\n"
    )
    return lambda asset: [sys.executable, "-S", "-c", before + text, str(asset.folder)]


def test_each_is_made_at_a_free_place(tmp_path: Path) -> None:
    command = programs("(folder / 'at').write_text(os.environ['PLACE'])")
    made = assets(tmp_path, "a", "b", "c")
    places = [Place({"PLACE": "1"}), Place({"PLACE": "2"})]
    ended = list(run(made, places, retries=0, stop=Stop(), command=command))
    assert {end.asset.folder for end in ended} == {asset.folder for asset in made}
    assert not any(end.problem or end.stopped for end in ended)
    assert {(tmp_path / name / "at").read_text() for name in "ab"} == {"1", "2"}


def test_what_ends_badly_is_tried_again_after_all_others_and_then_told(tmp_path: Path) -> None:
    command = programs(
        "if prompt == 'crash' and tried < 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if prompt == 'full': print('rfgs: no room; make some', file=sys.stderr); sys.exit(2)\n"
        "if prompt == 'bug': raise ValueError('odd')"
    )
    said: list[str] = []
    made = assets(tmp_path, "crash", "full", "bug", "fine")
    ended = list(run(made, [Place()], retries=2, stop=Stop(), say=said.append, command=command))
    assert [end.asset.job.prompt for end in ended] == ["fine", "crash", "full", "bug"]
    told = {end.asset.job.prompt: end.problem for end in ended}
    assert told["crash"] == told["fine"] == "" and told["full"] == "no room; make some"
    assert told["bug"] == f"ValueError: odd (all of it: {tmp_path / 'bug' / LOG})"
    assert [(tmp_path / name / "tried").read_text() for name in ("crash", "full", "fine")] == ["3", "3", "1"]
    assert len(said) == 6 and "crash, seed 0: its process was killed by signal 9" in said[0]


def test_a_stop_reaches_all_and_begins_none(tmp_path: Path) -> None:
    command = programs(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); print('up', flush=True)\n"
        "if prompt != 'first': signal.pause()"
    )
    stop, ended = Stop(), []
    for end in run(
        assets(tmp_path, "first", "a", "b"), [Place(), Place()], retries=2, stop=stop, command=command
    ):
        ended.append(end)
        if end.asset.job.prompt == "first":
            # Both others are begun once its place is free; wait until the last of them hears signals.
            stop.ask()
    assert [end.stopped for end in ended] == [False, True] and not (tmp_path / "b").exists()


def test_none_outlives_an_exception(tmp_path: Path) -> None:
    going = run(assets(tmp_path, "first", "a"), [Place(), Place()], retries=0, stop=Stop(), command=programs(
        "if prompt == 'a': time.sleep(600)"
    ))  # fmt: skip
    next(going)
    going.close()  # type: ignore[attr-defined]  # It waits for the process that it kills, or this would hang.
