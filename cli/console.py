"""What `rfgs generate` shows on the terminal: the progress bar, the end, and what Ctrl-C does."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rfgs.distill import Step
    from rfgs.runs.generate import Result

PERIOD = 0.2
"""Least seconds between two looks at the loss, since each look waits for the GPU."""


class Progress:
    """A bar with steps, rate, time left, number of splats and loss, on stderr."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._looked = -float("inf")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, step: Step) -> None:
        """Counts a step."""
        from tqdm import tqdm

        if self._bar is None:
            done = step.index - 1
            self._bar = tqdm(total=step.total, initial=done, unit="step", desc="generate", dynamic_ncols=True)
        self._bar.update()
        now = time.monotonic()
        if now - self._looked >= PERIOD or step.index == step.total:
            self._looked = now
            self._bar.set_postfix_str(
                f"{len(step.splats)} splats, loss {float(step.loss):.3g}", refresh=False
            )

    def say(self, message: str) -> None:
        """Prints a line to stderr without breaking the bar."""
        if self._bar is None:
            print(message, file=sys.stderr, flush=True)
        else:
            self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


class StopOnInterrupt:
    """Within its block, the first Ctrl-C asks for an early end and the second one quits as usual.

    Args:
        say: shows a line to the user.
        on_stop: called at the first Ctrl-C, for whatever holds the loop up.
    """

    def __init__(self, say: Callable[[str], None], on_stop: Callable[[], None]) -> None:
        self._say, self._on_stop = say, on_stop
        self._before: Any = None
        self.pressed = False

    def __enter__(self) -> StopOnInterrupt:
        self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, self._before)
        self._say("stopping after this step, and writing what there is; Ctrl-C again quits at once")
        self._on_stop()


def print_result(result: Result, folder: Path) -> None:
    """Where the time went, what was written, and how to open it; to stdout."""
    record = result.record
    seconds = record["seconds"]
    parts = [f"{part} {spent:.1f}" for part, spent in seconds.items() if spent >= 0.05]
    done, total = record["steps_done"], record["config"]["steps"]
    early = f", stopped after step {done} of {total}" if done < total else ""
    print(f"\n{record['splats']} splats in {sum(seconds.values()):.1f} s{early}")
    print(f"  seconds: {', '.join(parts)}")
    print(f"  peak memory: {_memory(record)}")
    for path in result.paths:
        print(f"  {path}")
    print(f"\nopen it:  rfgs view {folder}")
    if done < total:
        print(f"go on:    rfgs generate --resume {folder}")


def _memory(record: dict[str, Any]) -> str:
    peak, gpu = record["peak_memory"], record["peak_gpu_memory"]
    parts = [f"{peak / 2**30:.2f} GiB"] if peak else ["unknown"]
    return ", ".join(parts + ([f"{gpu / 2**30:.2f} GiB on the GPU"] if gpu else []))
