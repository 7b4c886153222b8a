"""One asset of a batch, from nothing or from its checkpoint on: a function, and a process that calls it and ends.

    python -m rfgs.runs.batch.worker '{"folder": "runs/batch/a-red-mug-0", "job": {...}, "score": ""}'

The process stops with a checkpoint at INT or TERM, and when who started it has ended, so that no worker outlives a driver that
was killed: a fork (`rfgs.runs.forks`) hears of that by itself, another process by its stdin, which that one holds open. Exit
codes are those of `rfgs`: 0 made, 1 an unexpected error, 2 what a user can mend, 130 stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.export.writing import made
from rfgs.runs import folders, forks
from rfgs.runs.batch import best
from rfgs.runs.batch.plan import Asset, state_of
from rfgs.runs.holding import hold, release
from rfgs.runs.job import Job, with_pairs
from rfgs.runs.plain import of_plain


def make(
    asset: Asset,
    *,
    stop: Stop | None = None,
    say: Callable[[str], None] = print,
    began: float | None = None,
) -> None:
    """Makes an asset and scores it, or what of that is missing. Waits where another process is at work in its folder.

    Args:
        stop: asked between two steps.
        say: told what `rfgs.runs.generate.generate` tells.
        began: see there.

    Raises:
        UserError: see there; or the folder holds a run with other settings.
    """
    stop = stop or Stop()
    hold(made(asset.folder), timeout=-1)
    try:
        if state_of(asset) in ("done", "dropped"):
            return
        folders.tidy(asset.folder)
        begun = (asset.folder / folders.RECORD).exists()
        if not begun:
            folders.note_job(asset.folder, asset.job)
        if not begun or not folders.is_whole(asset.folder, folders.read_record(asset.folder)):
            from rfgs.runs.generate import generate

            def on_start(*_: object) -> None:
                stop.saves = True

            generate(
                asset.job,
                asset.folder,
                resume=begun,
                on_start=on_start,
                stop=stop.check,
                say=say,
                began=began,
            )
        if asset.score:
            best.note_score(asset)
    finally:
        release(asset.folder)


def to_text(asset: Asset) -> str:
    """An asset as a worker's process gets it."""
    return json.dumps(
        {"folder": str(asset.folder), "job": asdict(asset.job), "score": asset.score}, default=str
    )


def of_text(text: str) -> Asset:
    """The asset of `to_text`."""
    said: dict[str, Any] = json.loads(text)
    job = {**said["job"], "settings": with_pairs(said["job"]["settings"])}
    return Asset(of_plain(Job, job), Path(said["folder"]), said.get("score", ""))


class Stop:
    """Within its block, INT and TERM end this process: at once, or, while there is something to save, when it is next asked.

    `rfgs.runs.generate.generate` asks between two steps, and then writes a checkpoint. A second signal does not wait.
    """

    def __init__(self) -> None:
        self.saves, self._signaled = False, False
        self._before: dict[int, Any] = {}

    def check(self) -> bool:
        """False. Raises KeyboardInterrupt where there was a signal."""
        if self._signaled:
            raise KeyboardInterrupt
        return False

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, *_: object) -> None:
        if self._signaled or not self.saves:
            raise KeyboardInterrupt
        self._signaled = True


def _end_with_driver() -> None:
    """Waits for the end of whoever started this process."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
    else:
        with suppress(OSError):
            while os.read(0, 1):
                pass
    os.kill(os.getpid(), signal.SIGTERM)


def fork(text: str) -> None:
    """The process, as a fork."""
    raise SystemExit(main(text))


def main(text: str) -> int:
    """The process; its exit code."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with Stop() as stop:
        threading.Thread(target=_end_with_driver, daemon=True).start()
        try:
            make(of_text(text), stop=stop, say=say, began=forks.began())
        except UserError as error:
            say(f"rfgs: {error}")
            return 2
        except KeyboardInterrupt:
            say("rfgs: stopped")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
