"""What the commands for images show: a bar, an early end by Ctrl-C, and the result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfgs.runs.claims import leave

from .console import StopOnInterrupt

if TYPE_CHECKING:
    from rfgs.flat.runs import ImageResult


class Meter:
    """Within its block: a bar on stderr from the first step on; a folder that stays empty vanishes at the end.

    Args:
        folder: the run's, claimed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._what = folder, ""
        self._bar: Any = None
        self._interrupt = StopOnInterrupt(self.say, lambda: None)
        self._listening = False

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._listening:
            self._interrupt.__exit__()
        if self._bar is not None:
            self._bar.close()
        leave(self._folder)

    def report(self, done: int, total: int, what: str) -> None:
        """Counts a step of what is being done."""
        from tqdm import tqdm

        if what != self._what:
            self._what = what
            if self._bar is not None:
                self._bar.close()
            self._bar = tqdm(total=total, unit="step", desc=what, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def stop(self) -> bool:
        """Whether Ctrl-C was pressed since this was first asked; before that, Ctrl-C quits."""
        if not self._listening:
            self._listening = True
            self._interrupt.__enter__()
        return self._interrupt.pressed

    def say(self, message: str) -> None:
        """Prints a line to stderr."""
        print(message, file=sys.stderr, flush=True)

    def print(self, result: ImageResult) -> None:
        """Time, metrics and files, to stdout."""
        if self._bar is not None:
            self._bar.close()
        seconds = result.record["seconds"]
        parts = ", ".join(f"{part} {spent:.1f}" for part, spent in seconds.items() if spent >= 0.05)
        print(f"\ndone in {sum(seconds.values()):.1f} s ({parts})")
        for name, value in result.record["metrics"].items():
            print(f"  {name.replace('_', ' ')}: {value:.4g}")
        skipped = result.record["skipped"]
        if skipped:
            from rfgs.distill.gradients import overflow

            print(f"  {overflow(skipped, result.record['dtype'])}")
        for path in result.paths:
            print(f"  {path}")
