"""One step of the loop with a model of full size and random weights on the CPU: its peak memory beside the estimate.

python bench/full_size.py                     # Stable Diffusion 3, one view of 64 pixels, in bfloat16
python bench/full_size.py --small             # the same program in miniature
"""

import time
from dataclasses import dataclass

import torch
from program import start

from rfgs.distill import distill, first_splats
from rfgs.distill.recipes import config_for
from rfgs.errors import UserError
from rfgs.measure.random_prior import random_prior
from rfgs.models import machine, memory

LEAST = 12 << 30


@dataclass
class Settings:
    """What to build."""

    model: str = "sd3"
    size: int = 64
    """Pixels."""
    guidance: str = "rfds"
    small: bool = False


def main(settings: Settings) -> None:
    """Prints what it took."""
    free = available()
    if not settings.small and free is not None and free < LEAST:
        raise UserError(f"{free / 2**30:.0f} GiB of memory are free, and this wants 12; try --small")
    before, began = machine.peak_memory() or 0, time.perf_counter()
    prior = random_prior(settings.model, device="cpu", dtype=torch.bfloat16, small=settings.small)
    built = time.perf_counter() - began
    config = config_for(
        prior,
        settings.guidance,
        {"views_per_step": 1, "resolution": settings.size, "steps": 1, "densify": "none", "splats": 1000},
    )
    generator = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    for step in distill("a cube", prior, first_splats(config, generator), config, generator=generator):
        loss = float(step.loss)
    taken = (machine.peak_memory() or 0) - before
    estimate = memory.estimate(settings.model, views=1, size=settings.size).total - int(memory.CONTEXT)
    print(f"built in {built:.0f} s, one step in {time.perf_counter() - began:.0f} s, loss {loss:.3g}")
    print(
        f"memory at its peak {taken / 2**30:.2f} GiB, estimated without CUDA's own {estimate / 2**30:.2f} GiB"
    )


def available() -> int | None:
    """Bytes that programs may still take, as Linux tells; None elsewhere."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


if __name__ == "__main__":
    start(main, Settings, __doc__)
