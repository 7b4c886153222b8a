"""Whether products in 8 bits cost an asset anything: the same runs with and without, measured against the world's truth.

    python bench/eight_bits.py                          # drafts of twelve prompts, seeds 0 and 1
    python bench/eight_bits.py --quality normal --seeds 0

A line a run in `--output`; what is there is not made again. "engine" says what evaluated.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from method import PROMPTS, make
from program import RESULTS, start

from rfgs.measure.remaining import remaining
from rfgs.measure.rows import append_row, made_by, read_rows
from rfgs.priors import converted, load_prior
from rfgs.priors.engine import used
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.job import QualityName
from rfgs.tinyworld.truth import measure


@dataclass
class Options:
    prompts: tuple[str, ...] = PROMPTS
    seeds: tuple[int, ...] = (0, 1)
    model: str = "tiny-sd3"
    quality: QualityName = "draft"
    output: Path = RESULTS / "eight_bits.jsonl"


KEY = ("model", "quality", "prompt", "seed", "eight_bits")


def rows_of(options: Options) -> list[dict[str, Any]]:
    """Makes what is not there yet, both ways of a prompt in turn; the rows of those that have both."""
    priors: dict[bool, Any] = {}
    wanted = {
        (options.model, options.quality, prompt, seed, eight): (prompt, seed, eight)
        for seed in options.seeds
        for prompt in options.prompts
        for eight in (False, True)
    }
    for key, (prompt, seed, eight) in remaining(options.output, wanted, key_of):
        converted.EIGHT_BITS = eight
        if eight not in priors:
            priors[eight] = load_prior(options.model, "flow", dtype=distillation_dtype("cpu"))
        splats, _, _ = make(priors[eight], prompt, seed, options.quality, {"guidance": "rfds"})
        figures = measure(splats, prompt).figures()
        row = dict(zip(KEY, key, strict=True)) | {name: round(figures[name], 4) for name in ("iou", "psnr")}
        row |= {"engine": used(priors[eight])}
        append_row(options.output, {**row, **made_by()})
        print(json.dumps(row), flush=True)
    rows = {key_of(row): row for row in read_rows(options.output)}
    whole = [key for key in wanted if all((*key[:-1], way) in rows for way in (False, True))]
    return [rows[key] for key in whole]  # Another process may be at work on the rest.


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def main(options: Options) -> None:
    """Makes the runs, and prints the means and that of the differences with its standard error."""
    torch.set_num_threads(1)
    rows = rows_of(options)
    for name in ("iou", "psnr"):
        plain, eight = ([row[name] for row in rows if row["eight_bits"] == way] for way in (False, True))
        apart = [b - a for a, b in zip(plain, eight, strict=True)]
        error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
        print(
            f"{name}: {mean(plain):.4f}, in 8 bits {mean(eight):.4f}, difference {mean(apart):+.4f} +- {error:.4f}"
        )


if __name__ == "__main__":
    start(main, Options, __doc__)
