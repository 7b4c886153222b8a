"""What evaluates a model on the CPU: torch against OpenVINO, one guided evaluation of four views (8 samples).

    python bench/engine.py                              # the embedded models, one and two threads
    python bench/engine.py --models tiny-sd3 --threads 1 --rounds 40

The engines take turns, so that a busy machine slows all of them alike. `ms` is the least wall-clock time of all rounds, `cpu ms`
the least processor time of all threads together; `error` is the rms of the difference from torch in float32, as a share
of the result's rms. "start" is the processor time of the first evaluation of a process whose model is converted already.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from program import RESULTS, start
from torch import Tensor

from rfgs.measure.rows import made_by, write_rows
from rfgs.models import machine
from rfgs.priors import guided, load_prior
from rfgs.priors.engine import used
from rfgs.priors.fit import distillation_dtype

PROMPTS = (
    "a red cube, front view",
    "a red cube, side view",
    "a red cube, back view",
    "a red cube, overhead view",
)


@dataclass
class Settings:
    """What to measure."""

    models: tuple[str, ...] = ("tiny-sd3", "tiny-instaflow", "tiny-sd")
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 20
    """Evaluations of each engine."""
    output: Path = RESULTS / "engine.jsonl"


def evaluate(prior: Any) -> Tensor:
    """One guided evaluation, always of the same views."""
    generator = torch.Generator().manual_seed(0)
    side = prior.image_size // prior.autoencoder.factor
    x = torch.randn(len(PROMPTS), prior.network.config.in_channels, side, side, generator=generator)
    t = torch.rand(len(PROMPTS), generator=generator)
    text, null = prior.embed(PROMPTS), prior.embed([""] * len(PROMPTS))
    return guided(prior, x, t, text, null, 8.0)


def rows_of(model: str, threads: int, rounds: int) -> list[dict]:
    """One row for each engine and precision that there is here."""
    torch.set_num_threads(threads)
    dtypes = [torch.float32] + [torch.bfloat16] * (distillation_dtype("cpu") == torch.bfloat16)
    priors, rows, exact = [], [], torch.zeros(())
    for dtype in dtypes:
        for engine in ("torch", "openvino"):
            if engine == "openvino" and machine.version("openvino") is None:
                continue
            prior = load_prior(model, None, dtype=dtype, engine=engine)
            prior.embed([*PROMPTS, ""])
            began = time.process_time()
            out = evaluate(prior)
            start = time.process_time() - began
            exact = exact if priors else out
            error = float((out - exact).square().mean().sqrt() / exact.square().mean().sqrt())
            priors.append(prior)
            rows.append({"model": model, "threads": threads, "engine": used(prior), "dtype": str(dtype)[6:],
                         "error": error, "start": start, "ms": float("inf"), "cpu_ms": float("inf")})  # fmt: skip
    for _ in range(rounds):
        for prior, row in zip(priors, rows, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            evaluate(prior)
            row["ms"] = min(row["ms"], 1e3 * (time.perf_counter() - wall))
            row["cpu_ms"] = min(row["cpu_ms"], 1e3 * (time.process_time() - cpu))
    return rows


def main(settings: Settings) -> None:
    """Measures, prints a table and writes it."""
    rows = []
    print("model           threads  engine              dtype         ms   cpu ms    error   start")
    for model in settings.models:
        for threads in settings.threads:
            for row in rows_of(model, threads, settings.rounds):
                rows.append(row)
                print(
                    f"{row['model']:<15} {row['threads']:>7}  {row['engine']:<18}  {row['dtype']:<9} {row['ms']:>6.1f}"
                    f"   {row['cpu_ms']:>6.1f}  {row['error']:>7.1e}  {row['start']:>5.2f} s",
                    flush=True,
                )
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    write_rows(settings.output, [{**row, **made_by()} for row in rows])


if __name__ == "__main__":
    start(main, Settings, __doc__)
