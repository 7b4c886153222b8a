"""Pictures of a benchmark: the table as a plot, and a sheet of the assets themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from rfgs.export.writing import atomic
from rfgs.measure.plan import BOUNDS, SETS, Run
from rfgs.measure.records import asset_path, run_of
from rfgs.measure.table import AVERAGE, Figure, columns_in

COLORS = {
    "single": (60, 110, 190),
    "surroundings": (60, 150, 90),
    "multiple": (200, 120, 40),
    "open": (140, 70, 160),
    AVERAGE: (0, 0, 0),
}
VIEWS = ((0, 15), (90, 15), (180, 15), (0, 65))
"""Azimuth and elevation of a sheet's four views, degrees."""
TILE, GAP, LABEL = 64, 8, 16


def write_plot(
    path: Path, figures: dict[str, dict[str, Figure]], *, what: str = "score", most: float = 100.0
) -> None:
    """A group of points with bars (the 95 % intervals) for each column, a color for each set, black for the average.

    `what` the figures are, from 0 to `most`.
    """
    from matplotlib.figure import Figure as Plot  # Takes half a second.

    plot = Plot(figsize=(1.5 * len(figures) + 1, 4.2), layout="constrained")
    axes = plot.subplots()
    names = list(next(iter(figures.values())))
    for place, name in enumerate(names):
        found = [rows[name] for rows in figures.values()]
        x = np.arange(len(found)) + 0.16 * (place - (len(names) - 1) / 2)
        color = [part / 255 for part in COLORS[name]]
        axes.vlines(x, [one.low for one in found], [one.high for one in found], color=color, linewidth=3)
        axes.plot(x, [one.mean for one in found], "o", color=color, clip_on=False, label=name.capitalize())
    axes.set_xticks(range(len(figures)), [column.replace(":", "\n") for column in figures])
    axes.set(xlim=(-0.5, len(figures) - 0.5), ylim=(0, most), ylabel=what)
    axes.grid(axis="y", alpha=0.3)
    plot.legend(loc="outside upper left", ncols=len(names))
    with atomic(path) as temporary:
        plot.savefig(temporary)


def write_sheet(path: Path, folder: Path, records: Sequence[dict[str, Any]], *, rows: int = 12) -> None:
    """Prompts down, columns across, four views of each asset: the first `rows` prompts of every set, of the lowest seed."""
    columns = [column for column in columns_in(records) if column not in BOUNDS]
    runs: dict[tuple[str, str], dict[str, Run]] = {}
    for record in sorted(records, key=lambda record: -record["run"]["seed"]):
        run = run_of(record)
        if run.column in columns:
            runs.setdefault((run.prompt_set, run.prompt), {})[run.column] = run
    shown = [key for name in SETS for key in [key for key in runs if key[0] == name][:rows]]
    across = TILE * len(VIEWS) + GAP
    image = Image.new("RGB", (across * max(len(columns), 1), LABEL + (TILE + LABEL) * len(shown)), "white")
    draw = ImageDraw.Draw(image)
    azimuths, elevations = zip(*VIEWS, strict=True)
    for i, column in enumerate(columns):
        draw.text((across * i + 4, 2), column, fill="black")
    for j, key in enumerate(shown):
        top = LABEL + (TILE + LABEL) * j
        draw.text((4, top + 2), key[1], fill="black")
        for i, column in enumerate(columns):
            asset = asset_path(folder, runs[key][column]) if column in runs[key] else None
            if asset is not None and asset.exists():
                # torch, which a table without assets does without.
                from rfgs.export import read_ply
                from rfgs.export.turntable import views_strip

                strip = views_strip(read_ply(asset), azimuths, elevations, size=TILE, columns=len(VIEWS))
                image.paste(Image.fromarray(strip), (across * i, top + LABEL))
    with atomic(path) as temporary:
        image.save(temporary)
