"""What more work buys: the exact score against the seconds of a run, or against the number of splats.

    python bench/tradeoff.py steps 55 110 220 420 1680
    python bench/tradeoff.py splats 500 1000 2000 4000 --densify none quantile
    python bench/tradeoff.py steps 2 3 --prompts 1                               # does it run?

Runs of different lengths, each with its own schedule, and not one run looked at on its way. They are made as those of
`rfgs bench` are, in a folder of the same kind (`--work`): what is there is not made again, and several processes may work on
one folder. Prints a Markdown table, and writes `--output` (JSON) and a plot beside it.
"""

from __future__ import annotations

import rfgs  # noqa: F401  before torch, so that its threads wait as they do in `rfgs generate`

# isort: split

import argparse
import sys
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from rfgs.errors import UserError
from rfgs.measure.plan import SETS, TRUTH, Column, Run, plan, quality_of, read_prompts, records_of
from rfgs.measure.table import AVERAGE, Figure, head, table
from rfgs.measure.work import Judge, work
from rfgs.runs.job import QUALITIES
from rfgs.training.results import markdown, save_results


def columns_of(what: str, values: list[int], densify: list[str], method: str) -> dict[str, list[Column]]:
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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    across = "seconds" if what == "steps" else "splats at the end"
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
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


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    curves = columns_of(args.what, args.values, args.densify, args.method)
    columns = [column for own in curves.values() for column in own]
    columns.append(Column("world", "rfds-rev", label=TRUTH))
    prompts = read_prompts(SETS, args.prompts, args.skip)
    runs: list[Run] = plan(columns, prompts, args.seeds, quality_of(args.quality, None))
    args.work.mkdir(parents=True, exist_ok=True)
    work(runs, args.work, Judge(), say=lambda line: print(line, flush=True))
    records = records_of(args.work, runs)
    rows, truth = points_of(args.what, curves, records), table(records, "exact")[TRUTH]
    args.output = args.output or Path(__file__).parent / "results" / f"tradeoff-{args.what}.json"
    settings = {
        name: getattr(args, name) for name in ("method", "quality", "prompts", "skip", "seeds", "threads")
    }
    bound = {name: figure.rounded() for name, figure in truth.items()}
    save_results(args.output, {"settings": settings, "cpu": records[0]["cpu"], "truth": bound, "rows": rows})
    plot(args.what, rows, truth[AVERAGE], args.output.with_suffix(".png"))
    names = [*prompts, AVERAGE]
    lines: list[list[Any]] = [
        [
            *(row["curve"], str(row[args.what]), f"{row['seconds']:.0f}", f"{row['evaluations']:.0f}"),
            f"{row['splats at the end']:.0f}",
            *(f"{row[name][0]:.1f}" for name in names),
            f"{row[AVERAGE][1]:.1f} to {row[AVERAGE][2]:.1f}",
        ]
        for row in rows
    ]
    lines.append(["the world", "", "", "", "", *(f"{truth[name].mean:.1f}" for name in names), ""])
    header = ["", args.what, "median s", "evaluations", "splats at the end", *names, "interval"]
    print(f"{markdown(header, lines)}\n\nwrote {args.output} and {args.output.with_suffix('.png')}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["steps", "splats"])
    parser.add_argument("values", type=int, nargs="+")
    parser.add_argument("--densify", nargs="+", default=["quantile"], help="a curve for each of these")
    parser.add_argument("--method", default="tiny-sd3:rfds-rev", help="MODEL:GUIDANCE")
    parser.add_argument(
        "--quality", choices=list(QUALITIES), default="normal", help="for all that is not varied"
    )
    parser.add_argument("--prompts", type=int, default=4, help="of each set")
    parser.add_argument("--skip", type=int, default=6, help="those of each set that settings were tuned on")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/tradeoff"), help="folder of the runs")
    parser.add_argument("--output", type=Path, help="none takes bench/results/tradeoff-WHAT.json")
    parser.add_argument("--threads", type=int, default=2)
    try:
        run(parser.parse_args())
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
