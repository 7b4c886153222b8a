"""What a big comparison would cost on many GPUs: a simulation, and an estimate only, since no GPU has run any of it.

    python bench/batch_plan.py --seconds 900     # SD3 at 900 seconds an asset, a number of yours; a second or two

GPUs take assets of several methods from a queue, as `rfgs.runs.batch.local` and Ray have it. An asset's seconds are the given
ones times what a step of its method costs beside one of RFDS, give or take a tenth; before it, its process starts and loads the
model; now and then one dies, and goes on elsewhere from its last checkpoint, of which there are ten. What the driver does for
each asset, and what each writes, is measured on a CPU (docs/batch.md), and says where these saturate.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

import tyro

COSTS = {
    "sds": 1.0,
    "vsd": 3.0,
    "rfds of a first flow": 1.0,
    "rfds-rev of a first flow": 1.5,
    "rfds of a second flow": 1.0,
    "rfds-rev of a second flow": 1.5,
}
"""The columns of the paper's table, and evaluations of each in a step beside RFDS's two (docs/guidance.md), forward and
back as three; all of models of one size. Counted, not measured on a GPU."""


@dataclass(frozen=True)
class Options:
    """What is simulated."""

    seconds: float = 900.0
    """An asset of RFDS with the model in question on one GPU: yours to measure."""
    start: float = 60.0
    """Seconds in which a process starts and loads the model."""
    prompts: int = 300
    """Number of prompts."""
    seeds: int = 3
    """Seeds of each."""
    gpus: tuple[int, ...] = (1, 8, 64)
    """Numbers of GPUs."""
    deaths: float = 0.01
    """Part of the assets whose process dies once."""
    driver: float = 0.01
    """Seconds of the driver for each asset."""
    megabytes: float = 100.0
    """What an asset writes in its time, checkpoints included."""
    dollars: float = 2.5
    """Price of a GPU's hour."""


def simulated(gpus: int, work: list[float], options: Options, rng: random.Random) -> tuple[float, float]:
    """Hours until the last asset is there, and the part of the GPUs' time in which assets are made."""
    queue = list(reversed(work))
    free = [0.0] * gpus  # When each GPU is free again.
    driver = busy = end = 0.0
    while queue:
        seconds = queue.pop()
        now = heapq.heappop(free)
        driver = max(driver, now) + options.driver  # One asset after the other.
        lost = rng.random() if rng.random() < options.deaths else None
        if lost is not None:
            # It is tried again after all others, from its last tenth on.
            done = int(10 * lost) / 10 * seconds
            queue.insert(0, seconds - done)
            took, useful = options.start + lost * seconds, done
        else:
            took, useful = options.start + seconds, seconds
        busy, end = busy + useful, max(end, driver + took)
        heapq.heappush(free, driver + took)
    return end / 3600, busy / (end * gpus)


def main(options: Options) -> None:
    """Simulate and print."""
    rng = random.Random(0)
    work = [
        options.seconds * cost * rng.uniform(0.9, 1.1)
        for _ in range(options.prompts * options.seeds)
        for cost in COSTS.values()
    ]
    print(
        f"ESTIMATE, no GPU has run this: {len(work)} assets ({options.prompts} prompts x {len(COSTS)} methods x "
        f"{options.seeds} seeds), {options.seconds:g} s each with RFDS"
    )
    for gpus in options.gpus:
        hours, part = simulated(gpus, work, options, random.Random(1))
        print(
            f"{gpus:5} GPUs: {hours:8.1f} hours, {100 * part:.1f} % of their time in steps, "
            f"{hours * gpus * options.dollars:,.0f} dollars, {len(work) * options.megabytes / hours / 3600:.1f} MB/s written"
        )
    each = sum(work) / len(work) + options.start
    print(f"the driver is the limit from about {each / options.driver:,.0f} GPUs on")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
