"""Records to figures: means with intervals, the table in the layout of the paper's Table 1, effects of single changes.

An interval is the 2.5th to 97.5th percentile of a bootstrap: 10,000 times the prompts of a set are drawn again, with all
seeds of a prompt together, since results of one prompt are not independent of one another. "Average" is the mean of the
sets' means, each set drawn on its own. With one prompt there is no interval.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rfgs.errors import UserError
from rfgs.measure.markdown import markdown
from rfgs.measure.plan import BOUNDS, COLUMNS, SETS

RESAMPLES = 10_000
AVERAGE = "average"
ACROSS = len(COLUMNS) + len(BOUNDS)
"""Methods side by side, at most."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A mean with its interval; NaN where there is none."""

    mean: float
    low: float
    high: float
    prompts: int
    runs: int

    def __str__(self) -> str:
        return self.told()

    def told(self, digits: int = 1) -> str:
        """For tables, with so many decimals."""
        if math.isnan(self.mean):
            return "-"
        if math.isnan(self.low):
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"

    def rounded(self) -> list[float]:
        """Mean, low and high end, for files of results."""
        return [round(value, 2) for value in (self.mean, self.low, self.high)]


NOTHING = Figure(math.nan, math.nan, math.nan, 0, 0)


def figure(groups: Sequence[dict[str, list[float]]], seed: int = 0) -> Figure:
    """The mean over `groups` (sets) of the mean over prompts of the mean over seeds, with its bootstrap interval.

    Args:
        groups: the values of each prompt, one dictionary a set.
    """
    if not groups or not all(groups):
        return NOTHING
    draws = _draws(seed, tuple(map(len, groups)), RESAMPLES)
    mean, drawn, prompts, runs = 0.0, np.zeros(RESAMPLES), 0, 0
    for values, draw in zip(groups, draws, strict=True):
        means = np.array([sum(seeds) / len(seeds) for seeds in values.values()])
        mean += float(means.mean()) / len(groups)
        drawn += draw @ means / len(groups)
        prompts, runs = prompts + len(means), runs + sum(map(len, values.values()))
    if any(len(values) < 2 for values in groups):
        return Figure(mean, math.nan, math.nan, prompts, runs)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(mean, float(low), float(high), prompts, runs)


@functools.lru_cache(maxsize=4)
def _draws(seed: int, sizes: tuple[int, ...], resamples: int) -> list[np.ndarray]:
    """The share of each prompt in each resample, [resamples, size] for each group; many figures are of groups of the same sizes.

    A resample's mean is then a product with the means, ten times faster than looking each of its prompts up.
    """
    rng = np.random.default_rng(seed)
    shares = []
    for size in sizes:
        drawn = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=resamples * size)
        shares.append(counts.reshape(resamples, size) / size)
    return shares


Values = dict[str, dict[str, dict[str, list[float]]]]
"""Figures seed by seed, by what they are grouped by, set and prompt."""


def values_of(records: Sequence[Record], key: str) -> Values:
    """Each prompt's values of a figure by column and set, seed by seed; what has none is left out."""
    values: Values = {}
    for record in records:
        run, figure = record["run"], _figure_of(record, key)
        if figure is not None:
            sets = values.setdefault(run["column"], {})
            sets.setdefault(run["prompt_set"], {}).setdefault(run["prompt"], []).append(figure)
    return values


def _figure_of(record: Record, key: str) -> float | None:
    """A figure of a run by its name: one of the truth, where that was measured, or of the scorer."""
    truth = record.get("truth")
    return truth[key] if truth and key in truth else record["score"].get(key)


def columns_in(records: Sequence[Record]) -> list[str]:
    """The columns that have results: the paper's in its order, others by name, bounds last."""
    there = {record["run"]["column"] for record in records}
    order = [column.name for column in COLUMNS]
    others = sorted(there - set(order) - set(BOUNDS))
    return [name for name in [*order, *others, *BOUNDS] if name in there]


def table(records: Sequence[Record], key: str = "score") -> dict[str, dict[str, Figure]]:
    """Figures by column and then by row: the sets that have results, and their average where a column has all of them."""
    values = values_of(records, key)
    sets = [name for name in SETS if any(name in found for found in values.values())]
    figures: dict[str, dict[str, Figure]] = {}
    for column in columns_in(records):
        groups = {name: values.get(column, {}).get(name, {}) for name in sets}
        figures[column] = {name: figure([group]) for name, group in groups.items()}
        figures[column][AVERAGE] = figure(list(groups.values()))
    return figures


def measured(figures: dict[str, dict[str, Figure]]) -> dict[str, dict[str, Figure]]:
    """The columns whose average is known."""
    return {column: rows for column, rows in figures.items() if not math.isnan(rows[AVERAGE].mean)}


def best(figures: dict[str, dict[str, Figure]]) -> str | None:
    """The column with the highest average, bounds apart; None where there are not two to choose from."""
    methods = [column for column in measured(figures) if column not in BOUNDS]
    return max(methods, key=lambda column: figures[column][AVERAGE].mean) if len(methods) > 1 else None


def table_text(figures: dict[str, dict[str, Figure]], digits: int = 1) -> str:
    """The table for people, as Markdown: methods side by side and prompt sets down, or turned where methods are many."""
    columns = list(figures)
    lines = [["", *(head(column) for column in columns)]]
    for name in figures[columns[0]]:
        lines.append([name.capitalize(), *(figures[column][name].told(digits) for column in columns)])
    lines.append(["Runs", *(_count(figures[column]) for column in columns)])
    return markdown(lines if len(columns) <= ACROSS else list(zip(*lines, strict=True)))


def head(column: str) -> str:
    """A column's name as the paper spells it: "tiny-sd3 RFDS-Rev"."""
    model, _, guidance = column.rpartition(":")
    return f"{model} {guidance.upper().replace('-REV', '-Rev')}" if model else column


def _count(rows: dict[str, Figure]) -> str:
    prompts = sum(figure.prompts for name, figure in rows.items() if name != AVERAGE)
    runs = sum(figure.runs for name, figure in rows.items() if name != AVERAGE)
    return f"{runs} of {prompts} prompts"


def costs_text(records: Sequence[Record]) -> str:
    """What each column took: median seconds, and mean evaluations of the network, forward and backward, a run."""
    rows = [["", "median seconds", "forward evaluations", "backward", "splats at the end"]]
    by_column: dict[str, list[Record]] = {}
    for record in records:
        by_column.setdefault(record["run"]["column"], []).append(record)
    for column in columns_in(records):
        if column in BOUNDS:
            continue
        own = by_column[column]
        mean = {
            name: np.mean([r["evaluations"].get(name, 0) for r in own]) for name in ("forward", "backward")
        }
        rows.append(
            [
                column,
                f"{np.median([record['seconds']['total'] for record in own]):.0f}",
                f"{mean['forward']:.0f}",
                f"{mean['backward']:.0f}",
                f"{np.mean([record['splats'] for record in own]):.0f}",
            ]
        )
    return markdown(rows)


def effects(records: Sequence[Record], base: str, key: str = "score") -> dict[str, Figure]:
    """What each column's runs score more than the base's of the same prompt and seed, over all sets; the best first.

    Raises:
        UserError: the base has no runs.
    """
    if not any(record["run"]["column"] == base for record in records):
        raise UserError(f"{base}: has no results yet, and everything else is compared with it")
    known = {
        _place(record["run"]): _figure_of(record, key)
        for record in records
        if record["run"]["column"] == base
    }
    differences: Values = {}
    for record in records:
        run = record["run"]
        bases = known.get(_place(run))
        if bases is not None and (own := _figure_of(record, key)) is not None:
            sets = differences.setdefault(run["column"], {})
            sets.setdefault(run["prompt_set"], {}).setdefault(run["prompt"], []).append(own - bases)
    found = {
        column: figure(list(differences.get(column, {}).values()))
        for column in columns_in(records)
        if column != base and column not in BOUNDS
    }
    return dict(sorted(found.items(), key=lambda item: -np.nan_to_num(item[1].mean, nan=-1e9)))


def differences_text(records: Sequence[Record], figures: dict[str, dict[str, Figure]] | None = None) -> str:
    """What each column's runs have more of the truth than the best column's, as Markdown; "" where there are not two.

    Args:
        figures: the table of "iou", where that is there already.
    """
    base = best(table(records, "iou") if figures is None else figures)
    if base is None:
        return ""
    psnr, edges = effects(records, base, "psnr"), effects(records, base, "edges")
    measured_edges = any(not math.isnan(effect.mean) for effect in edges.values())
    rows = [[f"against {head(base)}", "IoU", "PSNR, dB", *(["edges"] * measured_edges), "runs"]]
    for name, effect in effects(records, base, "iou").items():
        sharp = [edges[name].told(3)] * measured_edges
        rows.append([head(name), effect.told(3), str(psnr[name]), *sharp, str(effect.runs)])
    return markdown(rows)


def _place(run: dict[str, Any]) -> tuple[str, str, int]:
    return run["prompt_set"], run["prompt"], run["seed"]


def warnings(records: Sequence[Record]) -> list[str]:
    """What makes the figures of a folder hard to compare."""
    told = []
    if len({record["scorer"] for record in records}) > 1:
        told.append("scores come from different scorers; make them anew with --rescore")
    versions = {record["git_commit"] or record["versions"]["rfgs"] for record in records}
    if len(versions) > 1:
        told.append(f"runs come from {len(versions)} versions of rfgs")
    return told
