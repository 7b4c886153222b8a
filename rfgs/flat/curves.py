"""A curve over steps as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rfgs.export.writing import atomic

PALE, DARK = (180, 200, 235), (25, 75, 170)


def write_curve(path: str | Path, values: Sequence[float], title: str, *, window: int = 1) -> None:
    """Draw values over steps 1, 2, ...; ones that are not finite leave a gap.

    Args:
        window: values in the moving average that is drawn dark above the pale curve; 1 draws the values themselves.

    Raises:
        Unwritten: the disk does not take it.
    """
    from matplotlib.figure import Figure  # Takes half a second.

    figure = Figure(figsize=(6.4, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for line, color in ((values, PALE), (moving_average(values, window), DARK)):
        axes.plot(range(1, len(line) + 1), line, color=[part / 255 for part in color])
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    with atomic(path) as temporary:
        figure.savefig(temporary)


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and up to window - 1 before it, without those that are not finite."""
    averages = []
    for end in range(1, len(values) + 1):
        part = [value for value in values[max(0, end - window) : end] if math.isfinite(value)]
        averages.append(sum(part) / len(part) if part else math.nan)
    return averages
