"""A batch on this machine: a process for each asset, one at a time at each place, tried again where it ends badly."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rfgs.export.writing import made
from rfgs.runs.batch.places import Place
from rfgs.runs.batch.plan import Asset
from rfgs.runs.batch.worker import fork, to_text
from rfgs.runs.forks import ABLE, Fork

LOG = "log.txt"
"""In an asset's folder: what its process said, try by try."""


@dataclass(frozen=True)
class Ended:
    """What came of an asset."""

    asset: Asset
    problem: str = ""
    """Why it was not made, in a line; "" if it was."""
    stopped: bool = False
    """Whether it was stopped on demand, and goes on with the same command."""


Worker = subprocess.Popen[bytes] | Fork


def worker(asset: Asset) -> list[str]:
    """The command that makes an asset."""
    return [sys.executable, "-m", "rfgs.runs.batch.worker", to_text(asset)]


class Stop:
    """What ends a batch early: `ask` may be called at any time, by a signal's handler too."""

    def __init__(self) -> None:
        self.asked = False
        self.events: SimpleQueue[Any] = SimpleQueue()
        """Whatever happens, in its order; None is that call."""

    def ask(self) -> None:
        """Has all workers stop with a checkpoint."""
        self.asked = True
        self.events.put(None)


def run(
    assets: Sequence[Asset],
    places: Sequence[Place],
    *,
    retries: int,
    stop: Stop,
    say: Callable[[str], None] = print,
    command: Callable[[Asset], list[str]] | None = None if ABLE else worker,
) -> Iterator[Ended]:
    """Makes assets; yields what came of each, as it ends. Those that are not begun when it is stopped are left out.

    All processes are killed where the iterator is closed or an exception passes, such as KeyboardInterrupt.

    Args:
        retries: how often an asset is tried again, after all others, whose process died or failed.
        say: told, in a line, of each try that failed.
        command: what makes an asset; its stdin ends when this process does. None makes it in a fork, which starts sooner.
    """
    waiting = deque((asset, 0) for asset in assets)
    free = deque(places)
    running: dict[Worker, tuple[Asset, int, Place]] = {}
    try:
        while running or (waiting and not stop.asked):
            while free and waiting and not stop.asked:
                asset, failed = waiting.popleft()
                place = free.popleft()
                running[_start(command, asset, place, stop.events)] = (asset, failed, place)
            process = stop.events.get()
            if process is None:
                for one in running:
                    one.terminate()
                continue
            asset, failed, place = running.pop(process)
            free.append(place)
            if process.stdin:
                process.stdin.close()
            code = process.returncode
            if code == 0:
                yield Ended(asset)
            elif stop.asked:
                yield Ended(asset, stopped=True)
            elif failed < retries:
                say(f"{asset.name}: {_reason(asset.folder, code)}; tried again later")
                waiting.append((asset, failed + 1))
            else:
                yield Ended(asset, _reason(asset.folder, code))
    finally:
        for one in running:
            one.kill()
        for one in running:
            one.wait()


def _start(
    command: Callable[[Asset], list[str]] | None, asset: Asset, place: Place, events: SimpleQueue[Any]
) -> Worker:
    process: Worker
    with (made(asset.folder) / LOG).open("ab") as log:
        if command is None:
            process = Fork(fork, [to_text(asset)], output=log.fileno(), environment=place.environment)
        else:
            process = subprocess.Popen(
                command(asset),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **place.environment},
                # A terminal sends Ctrl-C to all of its group, and a worker's is the driver's to send.
                start_new_session=True,
            )

    def wait() -> None:
        process.wait()
        events.put(process)

    threading.Thread(target=wait, daemon=True).start()
    return process


def _reason(folder: Path, code: int) -> str:
    """Why a worker ended, in a line: what it said last, or the signal."""
    log = folder / LOG
    if code < 0:
        # On Linux 9 is what a full memory comes to.
        return f"its process was killed by signal {-code}" + (
            ", as by a system without memory" if code == -9 else ""
        )
    said: list[str] = []
    with suppress(OSError):
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    last = said[0].removeprefix("rfgs: ") if said else f"exit code {code}"
    return last if code == 2 else f"{last} (all of it: {log})"
