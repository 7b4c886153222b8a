"""Where the time of a step, or of a run, goes."""

from __future__ import annotations

import time


class Clock:
    """Splits the time from its making on. It never waits for a GPU, so on one its parts are the time to launch the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Counts the time since the lap before for `part`."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now
