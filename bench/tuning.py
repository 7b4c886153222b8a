"""Every method of the table tuned with the same effort: the same number of trials, on prompts that the table leaves out.

    python bench/tuning.py --prompts 1                              # six trials of each of seven methods
    python bench/tuning.py --prompts 3 --trials "scale 4" "scale 8" "scale 16" "LoRA rate 1e-3"    # the best ones again
    python bench/tuning.py --columns tiny-sd:sds --prompts 1        # does it run?

A trial is one change to a method's settings with a guidance scale of 4 (`COMMON`, and one of `OWN`). Its runs are compared
with those of the unchanged method, prompt by prompt. Runs are made as those of `rfgs bench` are, in a folder of the same kind
(`--work`): what is there is not made again, and several processes may work on one folder. Prints a Markdown table and puts its
rows into `--output`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from program import RESULTS, start

from rfgs.measure.markdown import markdown
from rfgs.measure.plan import COLUMNS, SETS, Column, find_columns, plan, quality_of, read_prompts
from rfgs.measure.records import records_of
from rfgs.measure.rows import change_rows, made_by
from rfgs.measure.table import AVERAGE, effects, head, table
from rfgs.measure.work import Judge, work
from rfgs.runs.job import QualityName

BASE = "scale 4"
"""What all trials are compared with, and part of those that do not change the scale."""
COMMON: dict[str, dict[str, Any]] = {
    BASE: {},
    "scale 2": {"guidance_scale": 2.0},
    "scale 8": {"guidance_scale": 8.0},
    "scale 16": {"guidance_scale": 16.0},
    "noise 0.02-0.98": {"noise_range": [0.02, 0.98], "final_noise_range": [0.02, 0.98]},  # DreamFusion's.
}
HALF_RATES = {
    "lr_means": 1e-2,
    "lr_quats": 4e-3,
    "lr_scales": 1e-2,
    "lr_opacities": 0.1,
    "lr_colors": 0.06,
}
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "sds": {"half the rates": HALF_RATES},
    "rfds": {"half the rates": HALF_RATES},
    "rfds-rev": {"inner step 0.5": {"inner_step_size": 0.5}},
    "vsd": {"LoRA rate 1e-3": {"lr_lora": 1e-3}},
    "rfds-vsd": {"LoRA rate 1e-3": {"lr_lora": 1e-3}},
}


@dataclass
class Options:
    columns: tuple[str, ...] = tuple(column.name for column in COLUMNS)
    """Methods, MODEL:GUIDANCE."""
    trials: tuple[str, ...] = ()
    """Names of those to make; all if none is given."""
    quality: QualityName = "draft"
    """Preset of steps, views and splats."""
    prompts: int = 6
    """Prompts of each set."""
    skip: int = 0
    """Prompts of each set to leave out before the first."""
    seeds: int = 1
    """Seeds of each prompt."""
    work: Path = Path("runs/tuning")
    """Folder of the runs."""
    output: Path = RESULTS / "tuning.jsonl"
    """The table."""
    threads: int = 2
    """Threads of each process."""


def trials(method: Column, only: Sequence[str]) -> dict[str, Column]:
    """One column for each trial of a method, by the trial's name; `only` names those wanted, and none means all."""
    changes = {**COMMON, **OWN[method.guidance]}
    changes = {name: settings for name, settings in changes.items() if not only or name in only}
    return {
        name: Column(
            method.model, method.guidance, {"guidance_scale": 4.0, **settings}, label=f"{method.name} {name}"
        )
        for name, settings in changes.items()
    }


def run(options: Options) -> None:
    torch.set_num_threads(options.threads)
    methods = {method.name: trials(method, options.trials) for method in find_columns(options.columns)}
    columns = [column for own in methods.values() for column in own.values()]
    prompts = read_prompts(SETS, options.prompts, options.skip)
    runs = plan(columns, prompts, options.seeds, quality_of(options.quality, None))
    work(runs, options.work, Judge(), say=lambda line: print(line, flush=True))
    records = records_of(options.work, runs)
    settings = {name: getattr(options, name) for name in ("quality", "prompts", "skip", "seeds")}
    about = {"settings": settings, **made_by()}
    figures, rows = table(records, "exact"), []
    lines: list[list[Any]] = []
    for method, own in methods.items():
        gains = effects(records, own[BASE].name, "exact") if BASE in own else {}
        for name, column in own.items():
            if column.name not in figures:
                continue
            values, gain = figures[column.name], gains.get(column.name)
            runs_made = sum(values[key].runs for key in prompts)
            rows.append(
                {
                    "method": method,
                    "trial": name,
                    "change": column.settings,
                    "exact": {key: round(figure.mean, 2) for key, figure in values.items()},
                    "gain": gain.rounded() if gain else None,
                    "runs": runs_made,
                    **about,
                }
            )
            scores = [values[key].mean for key in (*prompts, AVERAGE)]
            lines.append([head(method), name, *scores, str(gain or ""), str(runs_made)])
    # Trials on another number of prompts stay in the table.
    change_rows(options.output, lambda before: [*without(before, rows), *rows])
    print(markdown([["method", "trial", *prompts, AVERAGE, "gain", "runs"], *lines]))
    print(f"\nwrote {options.output}")


def without(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier rows without those that `rows` replaces."""
    names = ("settings", "method", "trial")
    new = [[row[name] for name in names] for row in rows]
    return [row for row in before if [row[name] for name in names] not in new]


if __name__ == "__main__":
    start(run, Options, __doc__)
