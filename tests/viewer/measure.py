"""What a viewer costs a run: `python tests/viewer/measure.py [--chromium]`. Not a test; it takes minutes.

The same short run is done again and again with nothing, an idle viewer, one plain connection that reads all it is
sent, and (if asked) a headless Chromium that draws in software on the same cores. The kinds take turns, so that a
busy machine slows all alike, and only ratios to the run with nothing are told.
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

STEPS, SPLATS, ROUNDS = 60, 3000, 7


def run(viewer: Viewer | None) -> float:
    """Seconds of one run of the real loop, with a prior that costs what the embedded one does."""
    config = DistillConfig(steps=STEPS, resolution=64)
    prior, generator = FakePrior(work=1000), torch.Generator().manual_seed(1)
    if viewer is not None:
        viewer.start(config, prior)
    start = time.perf_counter()
    for step in distill("orange", prior, three_balls(SPLATS), config, generator=generator):
        if viewer is not None:
            viewer.update(step)
    return time.perf_counter() - start


def bare() -> float:
    return run(None)


def idle() -> float:
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


def plain() -> float:
    with Viewer(port=0) as viewer, reader(viewer.url):
        time.sleep(0.5)
        return run(viewer)


def browser() -> float:
    with Viewer(port=0) as viewer, Chromium() as chromium:
        chromium.open(viewer.url)
        chromium.wait_text("preparing", timeout=60)
        time.sleep(3)
        return run(viewer)


def main() -> None:
    kinds: list[Callable[[], float]] = [bare, idle, plain] + ([browser] if "--chromium" in sys.argv else [])
    bare()  # Warms caches up.
    ratios: dict[str, list[float]] = {kind.__name__: [] for kind in kinds}
    for _ in range(ROUNDS):
        times = {kind.__name__: kind() for kind in kinds}
        again = bare()
        base = (times["bare"] + again) / 2  # On both sides of the others, against drift.
        ratios["bare"].append(again / times["bare"])
        for name in list(times)[1:]:
            ratios[name].append(times[name] / base)
        print({name: round(value, 2) for name, value in times.items()}, round(again, 2), flush=True)
    for name, values in ratios.items():
        low, *_, high = sorted(values)
        print(f"{name}: median ratio {statistics.median(values):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
