"""The newest of a run, copied from its steps no oftener than somebody sees it, and the run's pace can bear."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rfgs.viewer.pace import Pace
from rfgs.viewer.prior_panel import Sight, sight_of
from rfgs.viewer.stage import snapshot

if TYPE_CHECKING:
    from torch import Tensor

    from rfgs.render.cameras import Cameras
    from rfgs.splats import Splats

WATCHED_PERIOD, WATCHED_PERIOD_CPU, UNWATCHED_PERIOD = 0.2, 1.0, 2.0
"""Least seconds between two snapshots of the splats, with and without a browser. Where the splats are on a CPU, the
browser may draw on the very cores that the run needs, for a quarter of a second after each: see `Pace`."""
SIGHT_PERIOD = 1.0
"""Least seconds between two looks at what the prior sees."""


class Newest:
    """What a page shows of a run. It is filled on the run's thread and read on others."""

    def __init__(self) -> None:
        self.splats: Splats | None = None
        self.views: tuple[Cameras, Tensor] | None = None
        """The cameras of a step, and what they saw."""
        self.sight: Sight | None = None
        self._splats_time = self._sight_time = -float("inf")
        self._pace = Pace(WATCHED_PERIOD_CPU)
        self._left = time.perf_counter()

    def keep(self, splats: Splats, *, until_next: bool = False) -> None:
        """Copies splats; `until_next`, those of the next step are wanted as soon as they are there."""
        self.splats = snapshot(splats)
        self._splats_time = -float("inf") if until_next else time.perf_counter()

    def take(self, step: Any, *, watched: bool, held: bool) -> bool:
        """Takes of a `Step` what is due.

        Args:
            watched: whether a browser is connected.
            held: whether the run waits after this step.

        Returns:
            Whether there is something to send now.
        """
        now = time.perf_counter()
        self._pace.step(now - self._left, now)
        watched_period = WATCHED_PERIOD if step.splats.device.type == "cuda" else self._pace.period
        due = now - self._splats_time >= (watched_period if watched else UNWATCHED_PERIOD)
        last = step.index == step.total
        if due or held or last:
            self.keep(step.splats)
        # Who comes during a pause, or after the end, gets to see what led to it.
        if held or last or (watched and now - self._sight_time >= SIGHT_PERIOD):
            self.sight = sight_of(step.index, step.frames.rgb, step.x0_hat, step.t)
            self.views, self._sight_time = (step.cameras, step.frames.rgb), now
        if watched and (due or held):
            self._pace.sent(now)
            return True
        return False

    def let_go(self) -> None:
        """Notes that the run goes on from here."""
        self._left = time.perf_counter()
