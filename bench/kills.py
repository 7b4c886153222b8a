"""`rfgs generate` killed at many moments, and finished: are its files the same, byte for byte?

    python bench/kills.py --moments 100     # some minutes; Linux or macOS

Half of the moments are those before a change to the run's folder, from the first file to the last rename; the other half are
evenly spread over the processor time of a run, so that they fall into loading, steps and rendering. Nothing runs any more after
such a moment: the process is killed, by SIGKILL or by a timer's signal that it does not handle. Then `--resume`, or the same
command again where there is no record yet, has to come to the files of a run that was not killed, with nothing of the first try
left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import tyro
from full_disk import faults

CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
"""Python's audit events of what changes a folder; the first argument is the path."""


def watching(folder: Path, count: int, note: int) -> Callable[[], None]:
    """To be called in a fork: has it die before its change number `count` in `folder`; all changes are counted in the file
    `note`, a descriptor."""

    def begin() -> None:
        seen, here = 0, str(folder)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in CHANGES and isinstance(arguments[0], (str, os.PathLike)):
                if os.fspath(arguments[0]).startswith(here):
                    seen += 1
                    if seen == count:
                        os.kill(os.getpid(), signal.SIGKILL)
                    os.pwrite(note, b"%8d" % seen, 0)

        sys.addaudithook(hook)

    return begin


def after(seconds: float) -> Callable[[], None]:
    """To be called in a fork: has it die after so much processor time."""

    def begin() -> None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-3))

    return begin


def problems(folder: Path, whole: Path, log: Path, moment: Callable[[], None]) -> tuple[str, list[str]]:
    """How far a run came until that moment, and what is wrong after it or after its end."""
    start = ["generate", *forked.DRAFT, "--output", str(folder)]
    killed = forked.command(start, log, moment)
    where = "at its end" if killed.code == 0 else "before its record"
    found = [f"exit code {killed.code}: {killed.text[-300:]}"] * (killed.code > 0)
    if (folder / "run.json").exists():
        where = (
            f"with {sum(1 for path in folder.rglob('*') if path.is_file())} files" if killed.code else where
        )
        # What it was just writing has another name, and stays until the next start.
        found += [fault for fault in faults(folder) if not fault.endswith(" stays")]
        start = ["generate", "--resume", str(folder), "--no-viewer"]
    if killed.code and not is_finished(folder):
        ended = forked.command(start, log)
        found += [f"cannot be finished: {ended.text[-300:]}"] * (ended.code != 0)
    found += faults(folder)
    found += [f"other bytes in {name}" for name in forked.same_files(folder, whole)]
    return where, found


def is_finished(folder: Path) -> bool:
    """Whether the run had written all, and was killed on its way out."""
    try:
        return bool(json.loads((folder / "run.json").read_text(encoding="utf-8"))["state"] == "finished")
    except (OSError, ValueError, KeyError):
        return False


def main(moments: int = 100) -> None:
    """Kill, finish, compare and print; exit code 1 if there is a problem.

    Args:
        moments: how many.
    """
    with tempfile.TemporaryDirectory() as place:
        base, log = Path(place), Path(place) / "log"
        forked.warm_up(base / "whole")
        note = os.open(base / "note", os.O_RDWR | os.O_CREAT)
        first = ["generate", *forked.DRAFT, "--output", str(base / "again")]
        ended = forked.command(first, log, watching(base / "again", 0, note))
        if ended.code:
            raise SystemExit(f"error: the run that is not killed failed: {ended.text}")
        changes = int(os.pread(note, 8, 0))
        print(
            f"a run makes {changes} changes to its folder in {ended.seconds:.1f} s of processor time",
            flush=True,
        )
        bad = 0
        for number in range(moments):
            folder, part = base / "run", (number + 0.5) / moments
            if number % 2:
                name, moment = f"{part * ended.seconds:5.2f} s", after(part * ended.seconds)
            else:
                count = 1 + int(part * changes)
                name, moment = f"change {count:3}", watching(folder, count, note)
            where, found = problems(folder, base / "whole", log, moment)
            bad += bool(found)
            print(f"{name:>10}: killed {where}: {'; '.join(found) or 'the same bytes'}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{moments} moments, {bad} with problems")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    tyro.cli(main)
