"""Pictures of a benchmark: the table as a plot, and a sheet of the assets themselves. Pillow alone draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from rfgs.export import read_ply
from rfgs.export.turntable import views_strip
from rfgs.export.writing import atomic
from rfgs.measure.plan import BOUNDS, SETS, Run, record_path
from rfgs.measure.table import AVERAGE, Figure, columns_in

COLOURS = {
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
    path: Path, figures: dict[str, dict[str, Figure]], *, top: float = 100.0, bottom: float = 0.0
) -> None:
    """A group of points with bars (the 95 % intervals) for each column, a colour for each set, black for the average."""
    width, height, left, low, high = 150 * len(figures) + 80, 420, 50, 350, 40
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)

    def up(value: float) -> float:
        return low - (min(max(value, bottom), top) - bottom) / (top - bottom) * (low - high)

    for tick in np.linspace(bottom, top, 6):
        draw.line([(left, up(tick)), (width - 10, up(tick))], fill=(225, 225, 225))
        draw.text((left - 6, up(tick)), f"{tick:g}", fill="black", anchor="rm")
    for number, (column, rows) in enumerate(figures.items()):
        middle = left + 150 * (number + 0.5)
        for place, (name, found) in enumerate(rows.items()):
            x, colour = middle + 24 * (place - (len(rows) - 1) / 2), COLOURS[name]
            if math.isnan(found.mean):
                continue
            if not math.isnan(found.low):
                draw.line([(x, up(found.low)), (x, up(found.high))], fill=colour, width=3)
            y = up(found.mean)
            draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=colour)
        for line, word in enumerate(column.split(":")):
            draw.text((middle, low + 10 + 14 * line), word, fill="black", anchor="ma")
    for place, name in enumerate(next(iter(figures.values()))):
        draw.text((left + 110 * place, 12), name.capitalize(), fill=COLOURS[name])
    with atomic(path) as temporary:
        image.save(temporary)


def write_sheet(path: Path, folder: Path, records: Sequence[dict[str, Any]], *, rows: int = 12) -> None:
    """Prompts down, columns across, four views of each asset: the first `rows` prompts of every set, of the lowest seed."""
    columns = [column for column in columns_in(records) if column not in BOUNDS]
    runs: dict[tuple[str, str], dict[str, Run]] = {}
    for record in sorted(records, key=lambda record: -record["run"]["seed"]):
        run = Run(**record["run"])
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
            asset = (
                record_path(folder, runs[key][column]).with_suffix(".ply") if column in runs[key] else None
            )
            if asset is not None and asset.exists():
                strip = views_strip(read_ply(asset), azimuths, elevations, size=TILE, columns=len(VIEWS))
                image.paste(Image.fromarray(strip), (across * i, top + LABEL))
    with atomic(path) as temporary:
        image.save(temporary)
