"""Where the time of a step of `rfgs generate` goes: prior, encode, render, backward, optimiser, and the rest.

    python bench/phases.py runs/a-red-cube-0 runs/...     # of finished runs, from their run.json
    python bench/phases.py                                # measured now: the embedded models, beside one another

What is measured now takes a step of each case in turn, so that a busy machine slows all of them alike; its first two steps
do not count. Times are wall-clock; "backward" goes through the encoder and the rasterizer. A run's "rest" is all of its
other seconds after the start: files, viewer and between.
"""

from rfgs import machine  # before torch, so that its threads wait as they do in `rfgs generate`

# isort: split
import json
from pathlib import Path

import torch
import tyro
from rasterizer import RESULTS

from rfgs.distill import distill
from rfgs.generate import START_RADIUS
from rfgs.job import KINDS, QUALITIES
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.recipes import recipe
from rfgs.recorder import STEP_PARTS
from rfgs.splats import ball

PARTS = (*STEP_PARTS, "rest")
CASES = (("tiny-sd3", "rfds"), ("tiny-sd3", "rfds-rev"), ("tiny-sd", "sds"))
WARM_UP = 2


def of_run(folder: Path) -> dict:
    """A finished run: its label, steps, and mean milliseconds of a step by part."""
    record = json.loads((folder / "run.json").read_text())
    seconds, steps = record["seconds"], max(record["steps_done"], 1)
    parts = {part: seconds[part] / steps * 1e3 for part in STEP_PARTS}
    parts["rest"] = (
        sum(s for part, s in seconds.items() if part not in ("startup", *STEP_PARTS)) / steps * 1e3
    )
    job = record["job"]
    return {"label": f"{folder.name} ({job['model']}, {job['guidance']})", "steps": steps, "ms": parts}


def measured(steps: int) -> list[dict]:
    """Some steps of each case, one of each in turn."""
    quality, loops = QUALITIES["normal"], []
    for model, guidance in CASES:
        prior = load_prior(model, KINDS[guidance], dtype=distillation_dtype("cpu"))  # As `generate` does.
        config = recipe(prior, guidance)
        config.steps, config.views_per_step, config.resolution = (
            steps + WARM_UP,
            quality.views_per_step,
            prior.image_size,
        )
        generator = torch.Generator().manual_seed(0)
        splats = ball(quality.splats, START_RADIUS, generator=generator)
        loops.append(distill("a red cube", prior, splats, config, generator=generator))
    sums = [dict.fromkeys(PARTS, 0.0) for _ in CASES]
    for index in range(steps + WARM_UP):
        for loop, total in zip(loops, sums, strict=True):
            spent = next(loop).seconds
            if index >= WARM_UP:
                for part, seconds in spent.items():
                    total[part] += seconds * 1e3 / steps
    return [
        {"label": f"{model}, {guidance}", "steps": steps, "ms": total}
        for (model, guidance), total in zip(CASES, sums, strict=True)
    ]


def plot(rows: list[dict], path: Path) -> None:
    """A bar a row, in shares of its step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.42 * len(rows)))
    left = [0.0] * len(rows)
    for part in PARTS:
        shares = [100 * row["ms"][part] / max(sum(row["ms"].values()), 1e-9) for row in rows]
        axis.barh([row["label"] for row in rows], shares, left=left, label=part)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="% of a step")
    axis.legend(ncols=len(PARTS), fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    /,
    steps: int = 20,
    output: Path = RESULTS / "phases.json",
) -> None:
    """Print a table, and write JSON and a plot.

    Args:
        runs: folders of finished runs; none: measure now.
        steps: of each case that is measured now.
        output: the JSON; the plot gets the same name with .png.
    """
    rows = [of_run(folder) for folder in runs] or measured(steps)
    width = max(len(row["label"]) for row in rows)
    print(f"{'':{width}} | ms a step | " + " ".join(f"{part:>9}" for part in PARTS))
    for row in rows:
        whole = sum(row["ms"].values())
        shares = " ".join(f"{100 * row['ms'][part] / max(whole, 1e-9):7.1f} %" for part in PARTS)
        print(f"{row['label']:{width}} | {whole:9.1f} | {shares}")
    output.parent.mkdir(exist_ok=True)
    output.write_text(
        json.dumps({"machine": machine.cpu_model(), "torch": torch.__version__, "rows": rows}, indent=1)
        + "\n"
    )
    plot(rows, output.with_suffix(".png"))


if __name__ == "__main__":
    tyro.cli(main)
