"""Where the time of `rfgs generate` goes: start, prior, encode, render, backward, optimizer, files, and the rest.

    python bench/phases.py runs/a-red-cube-0 runs/...     # of finished runs, from their run.json
    python bench/phases.py                                # of steps, measured now: the embedded models, beside one another

What is measured now takes a step of each case in turn, so that a busy machine slows all of them alike; its first two steps
do not count. Times are wall-clock; "backward" goes through the encoder and the rasterizer, and the first "render" of a run
loads the rasterizer.
"""

import json
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from program import RESULTS

from rfgs.distill import distill
from rfgs.distill.recipes import recipe
from rfgs.distill.settings import START_RADIUS
from rfgs.guidance import find_guide
from rfgs.measure.rows import made_by, write_rows
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.job import QUALITIES
from rfgs.runs.recorder import STEP_PARTS
from rfgs.splats import ball

PARTS = ("startup", *STEP_PARTS, "files", "rest")
CASES = (("tiny-sd3", "rfds"), ("tiny-sd3", "rfds-rev"), ("tiny-sd", "sds"))
WARM_UP = 2


def of_run(folder: Path) -> dict:
    """A finished run: its label, steps, seconds by part and peak memory."""
    record = json.loads((folder / "run.json").read_text())
    job, seconds = record["job"], dict.fromkeys(PARTS, 0.0)
    for part, spent in record["seconds"].items():
        seconds[part if part in PARTS else "rest"] += spent
    label = f"{folder.name} ({job['model']}, {job['guidance']})"
    return {
        "label": label, "steps": record["steps_done"], "seconds": seconds, "peak_memory": record["peak_memory"],
        "dtype": record.get("dtype"),
    }  # fmt: skip


def measured(steps: int) -> list[dict]:
    """Some steps of each case, one of each in turn."""
    quality, loops, dtype = QUALITIES["normal"], [], distillation_dtype("cpu")  # as `generate` does
    for model, guidance in CASES:
        prior = load_prior(model, find_guide(guidance).kind, dtype=dtype)
        config = recipe(prior, guidance)
        config.steps, config.views_per_step, config.resolution = (
            steps + WARM_UP,
            quality["views_per_step"],
            prior.image_size,
        )
        generator = torch.Generator().manual_seed(0)
        splats = ball(quality["splats"], START_RADIUS, generator=generator)
        loops.append(distill("a red cube", prior, splats, config, generator=generator))
    sums = [dict.fromkeys(PARTS, 0.0) for _ in CASES]
    for index in range(steps + WARM_UP):
        for loop, total in zip(loops, sums, strict=True):
            spent = next(loop).seconds
            if index >= WARM_UP:
                for part, seconds in spent.items():
                    total[part] += seconds
    return [
        {
            "label": f"{model}, {guidance}",
            "steps": steps,
            "seconds": total,
            "dtype": str(dtype).removeprefix("torch."),
        }
        for (model, guidance), total in zip(CASES, sums, strict=True)
    ]


def shares(row: dict) -> list[float]:
    """Percent of the row's time, by part."""
    whole = max(sum(row["seconds"].values()), 1e-9)
    return [100 * row["seconds"][part] / whole for part in PARTS]


def plot(rows: list[dict], path: Path) -> None:
    """A bar a row, in shares of its time."""
    figure = Figure(figsize=(8, 0.9 + 0.42 * len(rows)))
    axis = figure.subplots()
    left = [0.0] * len(rows)
    for number, part in enumerate(PARTS):
        wide = [shares(row)[number] for row in rows]
        axis.barh([row["label"] for row in rows], wide, left=left, label=part)
        left = [a + b for a, b in zip(left, wide, strict=True)]
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="% of the time")
    axis.legend(ncols=len(PARTS), fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path, dpi=90, bbox_inches="tight")


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    /,
    steps: int = 20,
    output: Path = RESULTS / "phases.jsonl",
) -> None:
    """Print a table, and write it and a plot.

    Args:
        runs: folders of finished runs; none: measure now.
        steps: of each case that is measured now.
        output: the table; the plot gets the same name with .png.
    """
    rows = [of_run(folder) for folder in runs] or measured(steps)
    width = max(len(row["label"]) for row in rows)
    print(f"{'':{width}} | steps       s   GiB | " + " ".join(f"{part:>9}" for part in PARTS))
    for row in rows:
        peak = f"{row['peak_memory'] / 2**30:5.2f}" if row.get("peak_memory") else "    -"
        percent = " ".join(f"{share:7.1f} %" for share in shares(row))
        print(
            f"{row['label']:{width}} | {row['steps']:5} {sum(row['seconds'].values()):7.1f} {peak} | {percent}"
        )
    about = made_by()
    write_rows(output, [{**row, **about} for row in rows])
    plot(rows, output.with_suffix(".png"))


if __name__ == "__main__":
    tyro.cli(main)
