"""How fast each method gets near the truth: IoU, PSNR and edges against evaluations of the network and against seconds.

    python bench/convergence.py                                              # all methods, at normal
    python bench/convergence.py --methods tiny-sd3:rfds --quality draft --prompts 1

A run has the settings that `rfgs generate` gives its model and guidance, and is measured (`rfgs.tinyworld.truth`) at some of its
steps; that does not count as its time. One line a run in `--output`; runs that it holds are not made again. Prints a table and
draws a plot beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from matplotlib.figure import Figure
from program import RESULTS, start

from rfgs.distill import distill, first_splats
from rfgs.distill.recipes import config_for
from rfgs.guidance import guides
from rfgs.measure.markdown import markdown
from rfgs.measure.plan import COLUMNS, SETS, find_columns, read_prompts
from rfgs.measure.remaining import remaining
from rfgs.measure.rows import append_row, read_rows
from rfgs.priors import Prior, load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.job import QUALITIES, QualityName
from rfgs.splats import without_haze
from rfgs.tinyworld.truth import measure

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of the steps after which an asset is measured."""
FIGURES = {"iou": "IoU", "psnr": "PSNR, dB", "edges": "edges"}
KEY = ("method", "quality", "prompt", "seed")


@dataclass
class Options:
    methods: tuple[str, ...] = tuple(column.name for column in COLUMNS)
    """MODEL:GUIDANCE."""
    prompts: int = 2
    """Of each of the four sets."""
    skip: int = 34
    """Those of each set that settings were tuned on."""
    seed: int = 0
    quality: QualityName = "normal"
    output: Path = RESULTS / "convergence.jsonl"
    """The table; the plot gets the same name with .png."""


def follow(prior: Prior, guidance: str, prompt: str, options: Options) -> dict[str, Any]:
    """One run: what a step took, and at FRACTIONS of the way what it had cost and how near it was."""
    config = config_for(prior, guidance, QUALITIES[options.quality])
    generator = torch.Generator().manual_seed(options.seed)
    cost, seconds, points = {"forward": 0, "backward": 0}, [], []
    for step in distill(prompt, prior, first_splats(config, generator), config, generator=generator):
        seconds.append(sum(step.seconds.values()))
        cost = {way: cost[way] + step.evaluations[way] for way in cost}
        if step.index in {max(1, round(fraction * step.total)) for fraction in FRACTIONS}:
            found = measure(without_haze(step.splats.detach()), prompt).figures()
            figures = {name: round(found[name], 4) for name in FIGURES}
            points.append({"step": step.index, "seconds": round(sum(seconds), 2), **cost, **figures})
    return {"steps": len(seconds), "step_seconds": round(median(seconds), 4), "points": points}


def cost_of(point: dict[str, float]) -> float:
    """Evaluations, a way back counted as two (it costs about as much)."""
    return point["forward"] + 2 * point["backward"]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """What a step costs and where runs end; means over runs, of seconds the median."""
    lines = [["method", "runs", "s a step", "evaluations a step", "in all", *FIGURES.values()]]
    for method in dict.fromkeys(row["method"] for row in rows):
        runs = [row for row in rows if row["method"] == method]
        last = [run["points"][-1] for run in runs]
        cost = mean(map(cost_of, last))
        lines.append(
            [
                *(method, str(len(runs)), f"{median(run['step_seconds'] for run in runs):.3f}"),
                *(f"{cost / runs[0]['steps']:.0f}", f"{cost:.0f}"),
                *(
                    f"{mean(point[name] for point in last):.{1 if name == 'psnr' else 3}f}"
                    for name in FIGURES
                ),
            ]
        )
    return markdown(lines)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A row for each figure: its mean over runs against evaluations and against seconds."""
    figure = Figure(figsize=(11, 3.6 * len(FIGURES)))
    grid = figure.subplots(len(FIGURES), 2, squeeze=False)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    models = list(dict.fromkeys(method.partition(":")[0] for method in methods))
    for axes, (name, title) in zip(grid, FIGURES.items(), strict=True):
        for method in methods:
            model, _, guidance = method.partition(":")
            # Runs of one method are measured at the same steps.
            columns = list(zip(*(row["points"] for row in rows if row["method"] == method), strict=True))
            style = {
                "color": f"C{list(guides()).index(guidance)}",
                "linestyle": ("-", ":", "--")[models.index(model) % 3],
            }
            for axis, value in zip(axes, (cost_of, lambda point: point["seconds"]), strict=True):
                across = [mean(map(value, column)) for column in columns]
                axis.plot(
                    across,
                    [mean(point[name] for point in column) for column in columns],
                    label=method,
                    **style,
                )
        axes[0].set(ylabel=title, xlabel="evaluations of the network (a way back counts as two)")
        axes[1].set(xlabel="seconds")
        for axis in axes:
            axis.set_xscale("log")
            axis.grid(alpha=0.3)
    grid[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    sets = read_prompts(SETS, options.prompts, options.skip)
    wanted = {
        (column.name, options.quality, prompt, options.seed): column
        for column in find_columns(options.methods)
        for prompts in sets.values()
        for prompt in prompts
    }
    priors: dict[str, Prior] = {}
    for name, column in remaining(options.output, wanted, lambda row: tuple(row[n] for n in KEY)):
        if column.model not in priors:
            priors[column.model] = load_prior(column.model, None, dtype=distillation_dtype("cpu"))
        found = follow(priors[column.model], column.guidance, name[2], options)
        row = {**dict(zip(KEY, name, strict=True)), **found}
        append_row(options.output, row)
        print(name, row["points"][-1], flush=True)
    rows = [row for row in read_rows(options.output) if tuple(row[n] for n in KEY) in wanted]
    plot(rows, options.output.with_suffix(".png"))
    print(f"{table(rows)}\n\nwrote {options.output} and {options.output.with_suffix('.png')}")


if __name__ == "__main__":
    start(main, Options, __doc__)
