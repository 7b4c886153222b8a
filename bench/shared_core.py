"""What two threads cost where another program wants one of the two cores: a guided evaluation of four views, OpenVINO and torch.

    python bench/shared_core.py     # Linux, two cores; half a minute

Each line has one thread, two threads, and both beside a program that takes all it can get of core 1.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from engine import inputs
from program import start

from rfgs.priors import guided, load_prior
from rfgs.priors.fit import distillation_dtype


@dataclass
class Options:
    rounds: int = 60
    model: str = "tiny-sd3"


@contextmanager
def taken() -> Iterator[None]:
    """A program that wants core 1."""
    busy = subprocess.Popen(["taskset", "-c", "1", sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        busy.kill()
        busy.wait()


def mean_ms(engine: str, threads: int, options: Options) -> float:
    """Of one evaluation, wall-clock."""
    torch.set_num_threads(threads)
    given = inputs(load_prior(options.model, None, dtype=distillation_dtype("cpu"), engine=engine))
    for _ in range(4):
        guided(*given)
    began = time.perf_counter()
    for _ in range(options.rounds):
        guided(*given)
    return 1e3 * (time.perf_counter() - began) / options.rounds


def main(options: Options) -> None:
    """Measures and prints."""
    for engine in ("openvino", "torch"):
        one, two = (mean_ms(engine, threads, options) for threads in (1, 2))
        with taken():
            one_beside, two_beside = (mean_ms(engine, threads, options) for threads in (1, 2))
        print(
            f"{engine}: 1 thread {one:.1f} ms, 2 threads {two:.1f}; beside another program {one_beside:.1f} and "
            f"{two_beside:.1f}, which is {two_beside / one:.2f} times one thread alone",
            flush=True,
        )


if __name__ == "__main__":
    start(main, Options, __doc__)
