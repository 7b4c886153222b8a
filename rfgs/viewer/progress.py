"""How far a run is, how fast it goes, and the curves of what it measured."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Point:
    """What one step measured."""

    index: int
    loss: Tensor | float
    residual: Tensor | float
    """Tensors until a page has asked for them."""
    splats: int


class Progress:
    """Listens to the steps on the run's thread, where it only stores; a page that asks does the sums."""

    CURVE_POINTS = 2000
    """Kept at most; beyond, every other one is dropped, and half as many are kept from then on."""

    def __init__(self) -> None:
        self.index, self.total, self.splats = 0, 0, 0
        self._waited = 0.0
        self._held: float | None = None
        """Since when the run has been paused."""
        self._start = time.perf_counter()
        self._end: float | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=50)
        self._stride = 1
        self._points: list[Point] = []

    def add(self, index: int, total: int, loss: Tensor, residual: Tensor, splats: int) -> None:
        """Takes the figures of one step; `loss` and `residual` are 0-d and stay on their device, unread."""
        self.index, self.total, self.splats = index, total, splats
        self._recent.append((index, self.elapsed()))
        if index % self._stride == 0 or index == total:
            self._points.append(Point(index, loss.detach(), residual.detach(), splats))
        if len(self._points) > self.CURVE_POINTS:
            self._points = self._points[::2]
            self._stride *= 2

    def hold(self) -> None:
        """Stops the clock for a pause, which counts neither as elapsed nor in the rate."""
        self._held = time.perf_counter()

    def go_on(self) -> None:
        """Lets the clock run again."""
        if self._held is not None:
            self._waited += time.perf_counter() - self._held
            self._held = None

    def end(self) -> None:
        """Stops the clock for good."""
        self._end = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds since the start, without pauses."""
        return (self._end or self._held or time.perf_counter()) - self._start - self._waited

    @property
    def percent(self) -> float:
        """0 to 100."""
        return 100.0 * min(self.index / self.total, 1.0) if self.total else 0.0

    @property
    def rate(self) -> float:
        """Steps per second over the last 50 steps; 0 before the second step."""
        recent = list(self._recent)
        if len(recent) < 2 or recent[-1][1] <= recent[0][1]:
            return 0.0
        return (recent[-1][0] - recent[0][0]) / (recent[-1][1] - recent[0][1])

    def rows(self) -> dict[str, str]:
        """Lines for the Run panel, by label."""
        rate = self.rate
        return {
            "step": f"{self.index} / {self.total}" if self.total else "preparing",
            "elapsed": clock(self.elapsed()),
            "ETA": clock((self.total - self.index) / rate) if rate else "",
            "steps/s": f"{rate:.2f}" if rate else "",
            "splats": f"{self.splats:,}" if self.splats else "",
        }

    def curves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Steps, losses, residuals and splat counts, each float64 [P].

        Waits for the device that has them once, for what is new since the last call.
        """
        points = self._points
        new = [
            (point, point.loss, point.residual)
            for point in points
            if not isinstance(point.loss, float) and not isinstance(point.residual, float)
        ]
        if new:
            import torch

            values = torch.stack([value.float() for _, *both in new for value in both]).reshape(-1, 2)
            for (point, *_), (loss, residual) in zip(new, values.tolist(), strict=True):
                point.loss, point.residual = loss, residual
        rows = [(point.index, point.loss, point.residual, point.splats) for point in points]
        steps, losses, residuals, counts = np.array(rows, dtype=np.float64).reshape(-1, 4).T
        return steps, losses, residuals, counts


def clock(seconds: float) -> str:
    """Hours (if any), minutes and seconds: "1:02:03" or "2:03"."""
    whole = max(int(round(seconds)), 0)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
