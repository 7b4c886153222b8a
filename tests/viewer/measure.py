"""What a viewer costs a run: `python tests/viewer/measure.py [--chromium]`. Not a test; it takes minutes.

The same short run is done again and again with nothing, an idle viewer, one plain connection that reads all it is
sent, and (if asked) a headless Chromium that draws in software on the same cores. The kinds take turns, so that a
busy machine slows all alike, and only ratios to the run with nothing are told: of the wall clock, and of this
process' processor time, which other processes disturb less.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))

from chromium import Chromium
from plain_client import connect_to
from viewer_fakes import FakePrior, three_balls

from rfgs.distill import DistillConfig, distill
from rfgs.viewer import Viewer

STEPS, SPLATS, ROUNDS = 40, 3000, 5


Times = tuple[float, float]
"""Seconds of wall clock and of processor time."""


def run(viewer: Viewer | None) -> Times:
    """One run of the real loop, with a prior that costs about what the embedded one does."""
    config = DistillConfig(steps=STEPS, resolution=64)
    prior, generator = FakePrior(work=1000), torch.Generator().manual_seed(1)
    if viewer is not None:
        viewer.start(config, prior)
    start, start_cpu = time.perf_counter(), time.process_time()
    for step in distill("orange", prior, three_balls(SPLATS), config, generator=generator):
        if viewer is not None:
            viewer.update(step)
    return time.perf_counter() - start, time.process_time() - start_cpu


def bare() -> Times:
    return run(None)


def idle() -> Times:
    with Viewer(port=0) as viewer:
        return run(viewer)


@contextmanager
def reader(url: str) -> Iterator[None]:
    """A connection that reads all it is sent."""
    connection = connect_to(url)

    def read() -> None:
        try:
            while True:
                connection.recv()
        except Exception:
            pass

    threading.Thread(target=read, daemon=True).start()
    yield
    connection.close()


def plain() -> Times:
    with Viewer(port=0) as viewer, reader(viewer.url):
        time.sleep(0.5)
        return run(viewer)


def browser() -> Times:
    with Viewer(port=0) as viewer, Chromium() as chromium:
        chromium.open(viewer.url)
        chromium.wait_text("preparing")
        time.sleep(3)
        return run(viewer)


def main() -> None:
    kinds: list[Callable[[], Times]] = [bare, idle, plain] + ([browser] if "--chromium" in sys.argv else [])
    # On a busy machine two threads of one matrix product wait for each other longer than they compute.
    torch.set_num_threads(1)
    bare()  # Warms caches up.
    ratios: dict[str, list[list[float]]] = {kind.__name__: [] for kind in kinds}
    for _ in range(ROUNDS):
        times = {kind.__name__: kind() for kind in kinds}
        again = bare()
        base = [
            (x + y) / 2 for x, y in zip(times["bare"], again, strict=True)
        ]  # On both sides, against drift.
        times["bare"] = again
        for name, pair in times.items():
            ratios[name].append([x / y for x, y in zip(pair, base, strict=True)])
        print({name: f"{wall:.2f} s, {cpu:.2f} s CPU" for name, (wall, cpu) in times.items()}, flush=True)
    for name, pairs in ratios.items():
        for clock, values in zip(("wall", "CPU"), zip(*pairs, strict=True), strict=True):
            print(
                f"{name}, {clock}: median ratio {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
            )


if __name__ == "__main__":
    main()
