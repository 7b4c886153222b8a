"""The Curves panel: loss, residual and number of splats over the steps."""

from __future__ import annotations

import numpy as np
import viser
from viser import uplot

from rfgs.viewer.progress import Progress

CURVES = (("Loss", "#4dabf7"), ("Residual", "#ec703a"), ("Splats", "#51cf66"))
SHOWN_POINTS = 300
"""Per curve at most: a chart is a few hundred pixels wide, and every refresh sends all points."""


class CurvesPanel:
    """Made inside the container that will hold it."""

    def __init__(self, gui: viser.GuiApi) -> None:
        empty = (np.zeros(1), np.zeros(1))
        ink = "#909296"
        axis = uplot.Axis(
            stroke=ink,
            grid=uplot.Axis_Grid(stroke="#3a3b3e", width=1),
            ticks=uplot.Axis_Ticks(stroke="#3a3b3e"),
        )
        self._total = 1
        self._charts = [
            gui.add_uplot(
                data=empty,
                series=(uplot.Series(label="step"), uplot.Series(label=name, stroke=color, width=2)),
                scales=steps_scale(1),
                axes=(axis, uplot.Axis(**axis, size=58)),
                legend=uplot.Legend(show=False),
                title=name,
                height=150,
                visible=False,  # Until there is something to draw.
            )
            for name, color in CURVES
        ]

    def show(self, progress: Progress) -> None:
        """Draws what `progress` has; curves of a handful of points and of thousands alike."""
        steps, *curves = progress.curves()
        if len(steps) < 2:
            return
        if progress.total != self._total:
            self._total = progress.total
            for chart in self._charts:
                chart.scales = steps_scale(self._total)
        thin = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), SHOWN_POINTS)).astype(int))
        for chart, values in zip(self._charts, curves, strict=True):
            fine = np.isfinite(values[thin])
            if fine.any():
                chart.data = (steps[thin][fine], values[thin][fine])
                chart.visible = True


def steps_scale(total: int) -> dict[str, uplot.Scale]:
    """The whole run from the first step to the last. (viser's charts lose a range that follows the data.)"""
    return {"x": uplot.Scale(time=False, range=(0, total))}
