"""The run at work, what it has said of itself, and what is to be said of one that has come to no good end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rfgs.runs.folders import PAUSED
from rfgs.runs.forks import Fork
from rfgs.viewer.studio.left import Left
from rfgs.viewer.studio.wishes import Wish

LINES = 40
"""Of what a run prints, that are kept."""
VIEWER = re.compile(r"viewer: (http://\S+)")
STEPS = re.compile(r"\s(\d+)/(\d+) \[")
"""In a line of the progress bar."""


@dataclass
class Work:
    """A run whose process was started here."""

    number: int
    wish: Wish
    folder: Path
    process: subprocess.Popen[bytes] | Fork | Left
    output: TextIO | None = None
    """What it prints, if this studio started it."""
    address: str | None = None
    """Of its own page, once it has said it."""
    stops: int = 0
    """How often it was asked to end."""
    steps: tuple[int, int] | None = None
    """How many are done, and of how many, once it has said so."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))

    @property
    def paused(self) -> bool:
        """Whether it waits, since somebody paused it in its page."""
        return os.path.exists(self.folder / PAUSED)


@dataclass(frozen=True)
class Ended:
    """How the process of a run has ended that came to no good end."""

    number: int
    wish: Wish
    words: str
    in_folder: bool
    """Whether there is a record of it."""


def page_of(address: str | None) -> str | None:
    """The address of a run's page, if it is one."""
    return address if address and VIEWER.fullmatch(f"viewer: {address}") else None


def last_words(code: int, lines: Sequence[str]) -> str:
    """What to say of a process that has ended with `code`; "" of one that did what it was to."""
    if code == 0:
        return ""
    if code < 0:
        with suppress(ValueError):
            why = signal.Signals(-code).name
            memory = ", which is also what a machine does that runs out of memory" * (why == "SIGKILL")
            return f"Its process is gone: it was ended from outside ({why}{memory})."
        return f"Its process is gone: it was ended from outside (signal {-code})."
    if code == 130:
        return "It was stopped before there was anything to write."
    told = [line for line in lines if line.startswith("rfgs: ")] or list(lines)[-1:] or ["it said nothing"]
    return f"It failed: {told[-1].removeprefix('rfgs: ')}"
