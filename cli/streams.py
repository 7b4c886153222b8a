"""Output that outlives its reader: a closed terminal, a pipe that nobody reads, an encoding that lacks a letter end no run.

And help that fits the terminal.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from typing import Any, TextIO


class Lasting:
    """A text stream whose writing never fails: what cannot be written is lost, and from then on all that follows.

    In all else it is the stream itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, or does not; returns the text's length."""
        try:
            self._stream.write(text)
        except RuntimeError:
            pass  # A signal's handler wrote while its program did: the stream itself is well.
        except (OSError, ValueError):
            self._lose()
        return len(text)

    def flush(self) -> None:
        """Flushes, or does not."""
        try:
            self._stream.flush()
        except RuntimeError:
            pass
        except (OSError, ValueError):
            self._lose()

    def _lose(self) -> None:
        """Lets the stream end nowhere. What it still holds would fail again, at the latest when Python ends."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass  # It has no file, or was closed.


def outlive() -> None:
    """Makes this process's stdout and stderr lasting. Letters that an encoding lacks are written as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # It was closed before Python started.
            stream = open(os.devnull, "w", encoding="utf-8")
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Lasting(stream))


class Folded(Lasting):
    """A stream with lines that fit the terminal: tyro folds what stands in its boxes, but not what stands above them."""

    def write(self, text: str) -> int:
        """Writes prose in lines of the terminal's width; returns the text's length."""
        width = shutil.get_terminal_size().columns
        folded = re.sub(r"\n{3,}", "\n\n", text)
        # The commands are named, and explained, below.
        folded = re.sub(r"(rfgs \[-h\]) \{\S+\}", r"\1 COMMAND ...", folded)
        lines = [line if len(line) <= width else textwrap.fill(line, width) for line in folded.split("\n")]
        super().write("\n".join(lines))
        return len(text)
