"""`rfgs generate` told to end, or left alone, at many moments, and finished: are its files the same, byte for byte?

    python bench/endings.py --moments 20     # of each way; some minutes; Linux or macOS

    term, hup, int    a signal, as from `kill`, a closed session, Ctrl-C
    twice             two of Ctrl-C's, the second a tenth of a second after the first
    terminal          the terminal that it runs in is closed
    reader            what reads its output, such as `| head`, goes away

The moments are evenly spread over the time of a run. It may go on to its end or stop, with or without what it has so far, and
without a traceback. Then `--resume`, or the same command again where there is no record yet, has to come to the files of a run
that was left in peace. Without a reader a run goes on to its end by itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import forked
import tyro
from full_disk import faults

WAYS = ("term", "hup", "int", "twice", "terminal", "reader")
SIGNALS = {"term": signal.SIGTERM, "hup": signal.SIGHUP, "int": signal.SIGINT, "twice": signal.SIGINT}


def into(output: int, others: Sequence[int], *, terminal: bool) -> Callable[[], None]:
    """To be called in a fork: has it write to the descriptor `output`, its terminal if it is one, and close `others`."""

    def begin() -> None:
        for descriptor in others:
            os.close(descriptor)
        if terminal:
            fcntl.ioctl(output, termios.TIOCSCTTY, 0)
        for stream in (0, 1, 2) if terminal else (1, 2):
            os.dup2(output, stream)
        os.close(output)

    return begin


def read_for(descriptor: int, seconds: float) -> None:
    """Reads what comes for so many seconds."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            with suppress(OSError):  # The other side of a terminal is gone already.
                if os.read(descriptor, 1 << 16):
                    continue
            time.sleep(max(0.0, until - time.monotonic()))


def ended(way: str, seconds: float, start: Sequence[str], log: Path) -> forked.Ended:
    """How a run ends to which this happens after so many seconds."""
    if way in SIGNALS:
        child = forked.start(start, log)
        for wait in (seconds, 0.1)[: 1 + (way == "twice")]:
            time.sleep(wait)
            os.kill(child, SIGNALS[way])  # One that has ended is not waited for yet, and so there.
    else:
        mine, its = os.openpty() if way == "terminal" else os.pipe()
        child = forked.start(start, log, into(its, [mine], terminal=way == "terminal"))
        os.close(its)
        read_for(mine, seconds)
        os.close(mine)
    return forked.wait(child, log)


def problems(way: str, seconds: float, folder: Path, whole: Path, log: Path) -> tuple[str, list[str]]:
    """What became of a run, and what is wrong with it after its end."""
    start = ["generate", *forked.DRAFT, "--output", str(folder)]
    first = ended(way, seconds, start, log)
    record = (folder / "run.json").exists()
    state = json.loads((folder / "run.json").read_text())["state"] if record else "no record"
    found = ["a traceback"] * first.traceback
    if state != "finished":
        again = ["generate", "--resume", str(folder), "--no-viewer"] if record else start
        second = forked.command(again, log)
        found += [f"cannot be finished: {second.text[-300:]}"] * (second.code != 0)
        found += ["it stopped"] * (way == "reader")
    found += faults(folder)
    found += [f"other bytes in {name}" for name in forked.same_files(folder, whole)]
    return f"exit code {first.code}, {state}", found


def main(moments: int = 20, ways: tuple[str, ...] = WAYS) -> None:
    """End, finish, compare and print; exit code 1 if there is a problem.

    Args:
        moments: how many, of each way.
        ways: which of them.
    """
    with tempfile.TemporaryDirectory() as place:
        base, log = Path(place), Path(place) / "log"
        forked.warm_up(base / "whole")
        began = time.monotonic()
        peace = forked.command(["generate", *forked.DRAFT, "--output", str(base / "again")], log)
        length = time.monotonic() - began
        if peace.code:
            raise SystemExit(f"error: the run that is left in peace failed: {peace.text}")
        print(f"a run takes {length:.1f} s", flush=True)
        bad = 0
        for way in ways:
            for number in range(moments):
                seconds, folder = (number + 0.5) / moments * length, base / "run"
                what, found = problems(way, seconds, folder, base / "whole", log)
                bad += bool(found)
                print(
                    f"{way:>8} {seconds:5.2f} s: {what}: {'; '.join(found) or 'the same bytes'}", flush=True
                )
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{moments * len(ways)} endings, {bad} with problems")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    tyro.cli(main)
