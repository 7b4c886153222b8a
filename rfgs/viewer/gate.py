"""The gate between two steps of a run, which a page may close, open for one step, or ask to end the run."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path


class Gate:
    """Thread-safe, open at first. A run passes through it between steps and holds nothing while it waits.

    Args:
        mark: a file that is there while the run waits, and whose removal lets it go on: for who has not its page, as a studio
            that finds the run of one that was killed.
    """

    def __init__(self, mark: Path | None = None) -> None:
        self._mark = mark
        self._unmark()  # Of a run that was killed while it waited.
        self._changed = threading.Condition()
        self._open = True
        self._allowed = 0
        self._stop = False

    @property
    def paused(self) -> bool:
        return not self._open and not self._stop

    @property
    def stop_requested(self) -> bool:
        return self._stop

    def pause(self) -> None:
        with self._changed:
            self._open, self._allowed = False, 0

    def resume(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def step_once(self) -> None:
        """Lets a paused run take one more step; pauses a running one after its current step."""
        with self._changed:
            if self._open:
                self._open, self._allowed = False, 0
            else:
                self._allowed += 1
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stop = True
            self._changed.notify_all()

    def would_wait(self) -> bool:
        return not (self._open or self._stop or self._allowed > 0)

    def wait(self) -> None:
        """Returns when the next step may start. Ctrl-C ends the wait."""
        with self._changed:
            if self.would_wait():
                self._hold()
            if not self._open and self._allowed > 0:
                self._allowed -= 1

    def _hold(self) -> None:
        try:
            with suppress(OSError):  # Without the mark, only the page lets it go on.
                if self._mark is not None:
                    self._mark.touch()
            marked = self._mark is not None and os.path.exists(self._mark)
            while self.would_wait():
                self._changed.wait(0.5)
                if marked and self._mark is not None and not os.path.exists(self._mark):
                    self._open = True
        finally:
            self._unmark()

    def _unmark(self) -> None:
        with suppress(OSError):
            if self._mark is not None:
                self._mark.unlink(missing_ok=True)
