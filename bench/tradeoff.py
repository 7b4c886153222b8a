"""What more work buys: the exact score against the seconds of a run, or against the number of splats.

    python bench/tradeoff.py steps 55 110 220 420 1680
    python bench/tradeoff.py splats 500 1000 2000 4000 --densify none quantile
    python bench/tradeoff.py steps 2 3 --prompts 1                               # does it run?

Runs of different lengths, each with its own schedule, and not one run looked at on its way. They are made as those of
`rfgs bench` are, in a folder of the same kind (`--work`): what is there is not made again, and several processes may work on
one folder. Prints a Markdown table, and writes it as `--output` and a plot beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any, Literal

import torch
import tyro
from matplotlib.figure import Figure as Plot
from program import RESULTS, start

from rfgs.measure.markdown import markdown
from rfgs.measure.plan import SETS, TRUTH, Column, Run, plan, quality_of, read_prompts
from rfgs.measure.records import records_of
from rfgs.measure.rows import made_by, write_rows
from rfgs.measure.table import AVERAGE, Figure, head, table
from rfgs.measure.work import Judge, work
from rfgs.runs.job import QualityName

WORLD = "the world"


@dataclass
class Options:
    what: Annotated[Literal["steps", "splats"], tyro.conf.Positional]
    """What is varied."""
    values: Annotated[tuple[int, ...], tyro.conf.Positional]
    """Its values."""
    densify: tuple[str, ...] = ("quantile",)
    """A curve for each of these."""
    method: str = "tiny-sd3:rfds-rev"
    """MODEL:GUIDANCE."""
    quality: QualityName = "normal"
    """Preset for all that is not varied."""
    prompts: int = 4
    """Prompts of each set."""
    skip: int = 6
    """Those of each set that settings were tuned on."""
    seeds: int = 1
    """Seeds of each prompt."""
    work: Path = Path("runs/tradeoff")
    """Folder of the runs."""
    output: Path | None = None
    """The table; none takes bench/results/tradeoff-WHAT.jsonl. The plot gets the same name with .png."""
    threads: int = 2
    """Threads of each process."""


def columns_of(
    what: str, values: Sequence[int], densify: Sequence[str], method: str
) -> dict[str, list[Column]]:
    """The columns of each curve, in the order of `values`."""
    model, _, guidance = method.rpartition(":")
    curves = {}
    for kind in densify:
        extra = {"densify": kind}
        name = head(method) if len(densify) == 1 else f"{head(method)}, {kind}"
        curves[name] = [
            Column(model, guidance, {what: value, **extra}, label=f"{method}-{what}-{value}-{kind}")  # type: ignore[arg-type]
            for value in values
        ]
    return curves


def points_of(
    what: str, curves: dict[str, list[Column]], records: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each column: its exact score by set and on average, and what it took."""
    figures, rows = table(records, "exact"), []
    for curve, columns in curves.items():
        for column in columns:
            own = [record for record in records if record["run"]["column"] == column.name]
            if own:
                rows.append(
                    {
                        "curve": curve,
                        what: column.settings[what],
                        "seconds": median(record["seconds"]["total"] for record in own),
                        "evaluations": mean(record["evaluations"]["forward"] for record in own),
                        "splats at the end": mean(record["splats"] for record in own),
                        "runs": len(own),
                        **{name: figure.rounded() for name, figure in figures[column.name].items()},
                    }
                )
    return rows


def plot(what: str, rows: list[dict[str, Any]], truth: Figure, path: Path) -> None:
    """The exact score with its interval over seconds, or over the splats that are left at the end."""
    across = "seconds" if what == "steps" else "splats at the end"
    figure = Plot(figsize=(6.5, 4.2))
    axes = figure.subplots()
    for index, curve in enumerate(dict.fromkeys(row["curve"] for row in rows)):
        own = [row for row in rows if row["curve"] == curve]
        x, (y, low, high) = [row[across] for row in own], zip(*(row[AVERAGE] for row in own), strict=True)
        axes.plot(x, y, "o-", color=f"C{index}", label=curve)
        axes.fill_between(x, low, high, color=f"C{index}", alpha=0.15)
        for row in own:
            axes.annotate(
                f"{row[what]}",
                (row[across], row[AVERAGE][0]),
                textcoords="offset points",
                xytext=(4, -11),
                fontsize=7,
            )
    axes.axhline(truth.mean, color="grey", linestyle=":", label="the world's own pictures")
    axes.set(xscale="log", xlabel=f"{across} (by each point: {what})", ylabel="exact score")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def run(options: Options) -> None:
    torch.set_num_threads(options.threads)
    curves = columns_of(options.what, options.values, options.densify, options.method)
    columns = [column for own in curves.values() for column in own]
    columns.append(Column("world", "rfds-rev", label=TRUTH))
    prompts = read_prompts(SETS, options.prompts, options.skip)
    runs: list[Run] = plan(columns, prompts, options.seeds, quality_of(options.quality, None))
    work(runs, options.work, Judge(), say=lambda line: print(line, flush=True))
    records = records_of(options.work, runs)
    rows, truth = points_of(options.what, curves, records), table(records, "exact")[TRUTH]
    output = options.output or RESULTS / f"tradeoff-{options.what}.jsonl"
    settings = {
        name: getattr(options, name) for name in ("method", "quality", "prompts", "skip", "seeds", "threads")
    }
    bound = {"curve": WORLD, **{name: figure.rounded() for name, figure in truth.items()}}
    about = {"settings": settings, **made_by()}
    write_rows(output, [{**row, **about} for row in [*rows, bound]])
    plot(options.what, rows, truth[AVERAGE], output.with_suffix(".png"))
    names = [*prompts, AVERAGE]
    lines: list[list[Any]] = [
        [
            *(row["curve"], str(row[options.what]), f"{row['seconds']:.0f}", f"{row['evaluations']:.0f}"),
            f"{row['splats at the end']:.0f}",
            *(f"{row[name][0]:.1f}" for name in names),
            f"{row[AVERAGE][1]:.1f} to {row[AVERAGE][2]:.1f}",
        ]
        for row in rows
    ]
    lines.append([WORLD, "", "", "", "", *(f"{truth[name].mean:.1f}" for name in names), ""])
    header = ["", options.what, "median s", "evaluations", "splats at the end", *names, "interval"]
    print(f"{markdown([header, *lines])}\n\nwrote {output} and {output.with_suffix('.png')}")


if __name__ == "__main__":
    start(run, Options, __doc__)
