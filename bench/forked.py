"""Commands of rfgs in processes of their own that begin with everything imported: forks of this one, which take no start.

What a fork may be limited or killed by is done to a real process: a full disk, SIGKILL, its limits.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Threads do not survive a fork.

DRAFT = (
    "a red cube", "--quality", "draft", "--steps", "20", "--splats", "200", "--views-per-step", "1", "--device", "cpu",
    "--no-viewer", "--engine", "torch",
)  # fmt: skip
"""A short run, as short as one with previews, checkpoints and a video can be."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """The exit code, or the signal's number below 0."""
    text: str
    """What it wrote to stdout and stderr, without the progress bar."""
    seconds: float
    """Processor time."""

    @property
    def traceback(self) -> bool:
        """Whether it ended in one."""
        return "Traceback" in self.text


def warm_up() -> None:
    """Imports what a run does. Nothing is computed: a fork has none of torch's threads."""
    import rfgs.cli.main
    import rfgs.runs.generate  # noqa: F401
    from rfgs.render import warmup

    warmup()


def command(arguments: Sequence[str], log: Path, before: Callable[[], object] = lambda: None) -> Ended:
    """Does `rfgs` with `arguments` in a fork, after `before`, and waits for its end."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be(arguments, log, before)
    _, status, used = os.wait4(child, 0)
    text = log.read_text(encoding="utf-8", errors="replace")
    # A bar is written over and over after a carriage return.
    lines = [line.rpartition("\r")[2] for line in text.splitlines()]
    return Ended(
        os.waitstatus_to_exitcode(status),
        "\n".join(line for line in lines if "step/s" not in line and "s/step" not in line),
        used.ru_utime + used.ru_stime,
    )


def _be(arguments: Sequence[str], log: Path, before: Callable[[], object]) -> None:
    """The fork: it never returns."""
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.setsid()
        from rfgs.cli.main import main

        before()
        main(arguments)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def same_files(one: Path, other: Path) -> list[str]:
    """Names of the files of a run that differ, or that only one of two folders has; records and checkpoints apart."""

    def contents(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in files
            if path.suffix not in (".json", ".pt")
        }

    first, second = contents(one), contents(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
