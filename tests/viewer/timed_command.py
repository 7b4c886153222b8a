"""The `rfgs` command with a stop-watch. Imports nothing that the command does not, so that its own time is told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """`rfgs`, in a process of its own, which waits after a run's first step and notes the clocks from there on.

    It waits until there is a file <folder>.go beside the run's folder, and writes "marks.json" in the folder: seconds of
    wall clock and of processor time, after the first step and after the last.
    """
    import rfgs.runs.generate
    from rfgs.cli.main import main as rfgs_main

    original = rfgs.runs.generate.generate

    def generate(job: Any, folder: Path, **options: Any) -> Any:
        marks: list[tuple[float, float]] = []

        def on_step(step: Any, told: Any = options["on_step"]) -> None:
            told(step)
            while not folder.with_suffix(".go").exists():
                time.sleep(0.05)
            marks.append((time.perf_counter(), time.process_time()))

        result = original(job, folder, **{**options, "on_step": on_step})
        (folder / "marks.json").write_text(json.dumps([marks[0], marks[-1]]))
        return result

    rfgs.runs.generate.generate = generate
    rfgs_main()
