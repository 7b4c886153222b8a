"""How often pages are sent new splats: as often as the run's own speed can bear."""

from __future__ import annotations

import statistics
from collections import deque

SHARE = 0.1
"""Of its time that a run may lose to browsers that draw what they were sent on the cores that the run computes on."""
WINDOW = 1.0
"""Seconds after which a browser has drawn what it was sent."""
FORGET = 1.02
"""By which factor steps may be slower from one sending to the next for reasons of their own, such as more splats."""
LONGEST = 5.0
"""Seconds; whoever watches wants to see something."""


class Pace:
    """Compares steps during which browsers may be drawing with those between, and sets the period by the difference.

    A browser with a GPU, or on another machine, takes nothing from the run, and is sent splats every `least` seconds; one
    that draws in software beside it takes half a second or more for each, which nobody but the run can tell.

    Args:
        least: the shortest period, seconds.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self.period = max(least, LONGEST / 2)
        """Seconds from one sending to the next; at first long enough to tell one kind of step from the other."""
        self._sent = -float("inf")
        self._known = float("inf")
        self._disturbed: list[float] = []
        self._calm: deque[float] = deque(maxlen=20)

    def step(self, seconds: float, now: float) -> None:
        """Notes a step that took `seconds` and ended at `now`."""
        middle = now - seconds / 2
        if middle - self._sent < min(WINDOW, self.period / 2):
            self._disturbed.append(seconds)
        else:
            self._calm.append(seconds)

    def sent(self, now: float) -> None:
        """Notes that splats are sent at `now`, and learns from what the sending before has cost."""
        if self._calm:
            # Where a browser is never done drawing no step is calm: what was known before is forgotten slowly.
            self._known = calm = min(statistics.median(self._calm), FORGET * self._known)
            lost = sum(self._disturbed) - calm * len(self._disturbed)
            # Half-way only: a single step may have been slow for another reason, such as a file that was written.
            period = (self.period + lost / SHARE) / 2
            # Every second step has to be calm, or there is nothing to compare with.
            self.period = min(max(period, self._least, 2 * calm), max(LONGEST, 2 * calm))
        self._disturbed.clear()
        self._sent = now
