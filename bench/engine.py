"""What evaluates a model on the CPU: torch against OpenVINO, one guided evaluation of four views (8 samples).

    python bench/engine.py                              # the embedded models, one and two threads
    python bench/engine.py --models tiny-sd3 --threads 1 --rounds 40

The engines take turns, so that a busy machine slows all of them alike. `ms` is the least wall-clock time of all rounds, `cpu ms`
the least processor time of all threads together; `error` is the rms of the difference from torch in float32, as a share
of the result's rms. "start" is the processor time of the first evaluation of a process whose model is converted already.
"matrix" is the share of the largest rate that torch's matrix products in that precision reach on these threads, in turn with the
rest: for bfloat16 in 8 bits too, so that it may exceed 100 %.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from program import RESULTS, start
from torch.utils.flop_counter import FlopCounterMode

from rfgs.measure.rows import made_by, write_rows
from rfgs.models import machine
from rfgs.priors import converted, eight_bits, guided, load_prior
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


SIZES = ((704, 192, 192), (704, 768, 192), (1024, 1024, 1024), (2048, 2048, 2048))
"""Of the products [rows, inward] x [inward, outward] that are tried for the machine's rate."""


def inputs(prior: Any) -> tuple[Any, ...]:
    """Of one guided evaluation, always of the same views; what `guided` takes."""
    generator = torch.Generator().manual_seed(0)
    side = prior.image_size // prior.autoencoder.factor
    x = torch.randn(len(PROMPTS), prior.channels, side, side, generator=generator)
    t = torch.rand(len(PROMPTS), generator=generator)
    return prior, x, t, prior.embed(PROMPTS), prior.embed([""] * len(PROMPTS)), 8.0


def flops(prior: Any) -> int:
    """Of one evaluation, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        guided(*inputs(prior))
    return counter.get_total_flops()


class Rate:
    """Multiplications and additions a second of torch's matrix products in one precision, the largest so far."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.best = 0.0
        self._products = [
            (
                2 * rows * inward * outward,
                torch.randn(rows, inward).to(dtype),
                torch.randn(outward, inward).to(dtype),
            )
            for rows, inward, outward in SIZES
        ]

    @torch.no_grad()
    def measure(self) -> None:
        """Tries each size once."""
        for work, a, b in self._products:
            began = time.perf_counter()
            torch.nn.functional.linear(a, b)
            self.best = max(self.best, work / (time.perf_counter() - began))


def rows_of(model: str, threads: int, rounds: int) -> list[dict]:
    """One row for each engine and precision that there is here."""
    torch.set_num_threads(threads)
    ways = [(torch.float32, "torch", False), (torch.float32, "openvino", False)]
    if distillation_dtype("cpu") == torch.bfloat16:
        ways += [(torch.bfloat16, "torch", False), (torch.bfloat16, "openvino", False)]
        ways += [(torch.bfloat16, "openvino", True)] * eight_bits.is_fast()
    cases, rows, exact, work = [], [], torch.zeros(()), 0
    for dtype, engine, eight in ways:
        if engine == "openvino" and machine.version("openvino") is None:
            continue
        converted.EIGHT_BITS = eight
        given = inputs(load_prior(model, None, dtype=dtype, engine=engine))
        began = time.process_time()
        out = guided(*given)
        start = time.process_time() - began
        exact, work = (exact, work) if cases else (out, flops(given[0]))
        error = float((out - exact).square().mean().sqrt() / exact.square().mean().sqrt())
        cases.append(given)
        rows.append({"model": model, "threads": threads, "engine": used(given[0]), "dtype": str(dtype)[6:],
                     "error": error, "start": start, "ms": float("inf"), "cpu_ms": float("inf"), "flops": work})  # fmt: skip
    rates = {str(dtype)[6:]: Rate(dtype) for dtype in {way[0] for way in ways}}
    for _ in range(rounds):
        for given, row in zip(cases, rows, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            guided(*given)
            row["ms"] = min(row["ms"], 1e3 * (time.perf_counter() - wall))
            row["cpu_ms"] = min(row["cpu_ms"], 1e3 * (time.process_time() - cpu))
        for rate in rates.values():
            rate.measure()
    for row in rows:
        row["matrix_gflops"] = rates[row["dtype"]].best / 1e9
        row["matrix_share"] = row["flops"] / (1e-3 * row["ms"]) / rates[row["dtype"]].best
    return rows


def main(settings: Settings) -> None:
    """Measures, prints a table and writes it."""
    rows = []
    print(
        "model           threads  engine                      dtype         ms   cpu ms    error   start  matrix"
    )
    for model in settings.models:
        for threads in settings.threads:
            for row in rows_of(model, threads, settings.rounds):
                rows.append(row)
                print(
                    f"{row['model']:<15} {row['threads']:>7}  {row['engine']:<26}  {row['dtype']:<9} {row['ms']:>6.1f}"
                    f"   {row['cpu_ms']:>6.1f}  {row['error']:>7.1e}  {row['start']:>5.2f} s  {row['matrix_share']:>4.0%}",
                    flush=True,
                )
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    write_rows(settings.output, [{**row, **made_by()} for row in rows])


if __name__ == "__main__":
    start(main, Settings, __doc__)
