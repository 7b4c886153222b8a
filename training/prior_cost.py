"""What a prior costs: its size on disk, the time until it is ready, and the time of one guided prediction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from rfgs.priors import guided

_LOAD = """
import json, sys, time
start = time.perf_counter()
from rfgs.priors import load_prior
imported = time.perf_counter()
prior = load_prior(sys.argv[1], None)
loaded = time.perf_counter()
prior.embed(["a red cube"])
end = time.perf_counter()
print(json.dumps({"import": imported - start, "load": loaded - imported, "first_prompt": end - loaded}))
"""


def load_seconds(model: str, repeats: int = 3) -> dict[str, float]:
    """Wall seconds, medians, to import, load and embed a first prompt in a fresh process, and of the whole process."""
    runs = []
    for _ in range(repeats):
        start = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        command = [sys.executable, "-c", _LOAD, model]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        parts = json.loads(done.stdout.strip().splitlines()[-1])
        runs.append({**parts, "process": time.perf_counter() - start})
    return {name: round(median(run[name] for run in runs), 3) for name in runs[0]}


def evaluation_seconds(prior: Any, repeats: int = 15) -> dict[str, float]:
    """Seconds of one guided prediction for four views, median and best; the first two are not counted."""
    condition, negative = prior.embed(["a red cube, front view"] * 4), prior.embed([""] * 4)
    with torch.no_grad():
        x = prior.encode(torch.full((4, 3, prior.image_size, prior.image_size), 0.5))
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        guided(prior, x, torch.full((4,), 0.5), condition, negative, 4.0)
        seconds.append(time.perf_counter() - start)
    return {
        "threads": torch.get_num_threads(),
        "median": round(median(seconds[2:]), 4),
        "best": round(min(seconds[2:]), 4),
    }


def megabytes(folder: Path) -> float:
    """Size of all files in a folder, 10^6 bytes."""
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 2)
