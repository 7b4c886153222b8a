"""Every method of the table tuned with the same effort: the same number of trials, on prompts that the table leaves out.

    python bench/tuning.py --prompts 1                              # six trials of each of seven methods
    python bench/tuning.py --prompts 3 --trials "scale 4" "scale 8" "scale 16" "LoRA rate 1e-3"    # the best ones again
    python bench/tuning.py --columns tiny-sd:sds --prompts 1        # does it run?

A trial is one change to a method's settings with a guidance scale of 4 (`COMMON`, and one of `OWN`). Its runs are compared
with those of the unchanged method, prompt by prompt. Runs are made as those of `rfgs bench` are, in a folder of the same kind
(`--work`): what is there is not made again, and several processes may work on one folder. Prints a Markdown table and writes
`--output` (JSON).
"""

from __future__ import annotations

import rfgs  # noqa: F401  before torch, so that its threads wait as they do in `rfgs generate`

# isort: split

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from rfgs.errors import UserError
from rfgs.measure.plan import (
    COLUMNS,
    SETS,
    Column,
    find_columns,
    plan,
    quality_of,
    read_prompts,
    records_of,
)
from rfgs.measure.table import AVERAGE, effects, head, table
from rfgs.measure.work import Judge, work
from rfgs.training.results import markdown, save_results

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


def trials(method: Column, only: list[str]) -> dict[str, Column]:
    """One column for each trial of a method, by the trial's name; `only` names those wanted, and none means all."""
    changes = {**COMMON, **OWN[method.guidance]}
    changes = {name: settings for name, settings in changes.items() if not only or name in only}
    return {
        name: Column(
            method.model, method.guidance, {"guidance_scale": 4.0, **settings}, label=f"{method.name} {name}"
        )
        for name, settings in changes.items()
    }


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    methods = {method.name: trials(method, args.trials) for method in find_columns(args.columns)}
    columns = [column for own in methods.values() for column in own.values()]
    prompts = read_prompts(SETS, args.prompts, args.skip)
    runs = plan(columns, prompts, args.seeds, quality_of(args.quality, None))
    args.work.mkdir(parents=True, exist_ok=True)
    work(runs, args.work, Judge(), say=lambda line: print(line, flush=True))
    records = records_of(args.work, runs)
    figures, rows = table(records, "exact"), []
    lines: list[list[Any]] = []
    for method, own in methods.items():
        gains = effects(records, own[BASE].name, "exact") if BASE in own else {}
        for name, column in own.items():
            if column.name not in figures:
                continue
            values, gain = figures[column.name], gains.get(column.name)
            told = {key: round(figure.mean, 2) for key, figure in values.items()}
            runs_made = sum(values[key].runs for key in prompts)
            rows.append(
                {
                    "method": method,
                    "trial": name,
                    "settings": column.settings,
                    "exact": told,
                    "gain": gain.rounded() if gain else None,
                    "runs": runs_made,
                }
            )
            scores = [values[key].mean for key in (*prompts, AVERAGE)]
            lines.append([head(method), name, *scores, str(gain or ""), str(runs_made)])
    settings = {name: getattr(args, name) for name in ("quality", "prompts", "skip", "seeds")}
    save_results(args.output, {"settings": settings, "cpu": records[0]["cpu"], "rows": rows})
    print(markdown(["method", "trial", *prompts, AVERAGE, "gain", "runs"], lines))
    print(f"\nwrote {args.output}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--columns", nargs="+", default=[column.name for column in COLUMNS])
    parser.add_argument(
        "--trials", nargs="+", default=[], help="names of those to make; all if none is given"
    )
    parser.add_argument("--quality", default="draft", help="preset of steps, views and splats")
    parser.add_argument("--prompts", type=int, default=6, help="of each set")
    parser.add_argument(
        "--skip", type=int, default=0, help="prompts of each set to leave out before the first"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/tuning"), help="folder of the runs")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results" / "tuning.json",
        help="JSON of the results",
    )
    parser.add_argument("--threads", type=int, default=2)
    try:
        run(parser.parse_args())
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
