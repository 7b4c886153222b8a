"""What `rfgs generate` shows on the terminal: the progress bar, the end, and what Ctrl-C and its like do."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rfgs.runs.launch import SIGNALS

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
        self._bar.total = step.total  # It may change on the way.
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
    """Within its block, the first Ctrl-C asks for an early end and the last one quits as usual; TERM and HUP count as one.

    Args:
        say: shows a line to the user.
        on_stop: called at the first Ctrl-C, for whatever holds the loop up.
        saves: whether the second one ends the run at its next step, where it has a checkpoint, and only the third one quits.
        told: what the first one is answered with.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        on_stop: Callable[[], None],
        *,
        saves: bool = False,
        told: str = "stopping after this step, and writing what there is",
    ) -> None:
        self._say, self._on_stop, self._saves, self._told = say, on_stop, saves, told
        self._before: dict[int, Any] = {}
        self._times = 0

    @property
    def pressed(self) -> bool:
        """Whether an early end is asked for."""
        return self._times > 0

    def stop(self) -> bool:
        """Whether an early end is asked for; asked between two steps.

        Raises:
            KeyboardInterrupt: even what there is need not be written any more.
        """
        if self._times > 1:
            raise KeyboardInterrupt
        return self.pressed

    def __enter__(self) -> StopOnInterrupt:
        for number in SIGNALS:
            before = signal.getsignal(number)
            # Under nohup a run is not to notice that its terminal is closed.
            if number == signal.SIGINT or before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._count)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def _count(self, number: int, frame: FrameType | None) -> None:
        if self.pressed and number not in (signal.SIGINT, signal.SIGTERM):
            return  # Of a closed terminal both its shell and the system tell.
        self._times += 1
        if self._times == 1:
            again = "skips that" if self._saves else "quits at once"
            self._say(f"{self._told}; Ctrl-C again {again}")
            self._on_stop()
        elif self._times == 2 and self._saves:
            self._say("quitting after this step, with a checkpoint to go on from; Ctrl-C again quits at once")
        else:
            raise KeyboardInterrupt


def print_result(result: Result, folder: Path) -> None:
    """Where the time went, what was written, and how to open it; to stdout."""
    record = result.record
    seconds = record["seconds"]
    parts = [f"{part} {spent:.1f}" for part, spent in seconds.items() if spent >= 0.05]
    done, total = record["steps_done"], record["config"]["steps"]
    for change in record.get("changes", []):
        total = change["new"] if change["setting"] == "steps" else total
    early = f", stopped after step {done} of {total}" if done < total else ""
    print(f"\n{record['splats']} splats in {sum(seconds.values()):.1f} s{early}")
    print(f"  seconds: {', '.join(parts)}")
    print(f"  peak memory: {_memory(record)}")
    for path in result.paths:
        print(f"  {path}")
    # On a full disk the asset is elsewhere, and not all that a folder of a run has is beside it.
    print(f"\nopen it:  rfgs view {folder if result.paths[0].parent == folder else result.paths[0]}")
    if done < total:
        print(f"go on:    rfgs generate --resume {folder}")


def _memory(record: dict[str, Any]) -> str:
    peak, gpu = record["peak_memory"], record["peak_gpu_memory"]
    parts = [f"{peak / 2**30:.2f} GiB"] if peak else ["unknown"]
    return ", ".join(parts + ([f"{gpu / 2**30:.2f} GiB on the GPU"] if gpu else []))
