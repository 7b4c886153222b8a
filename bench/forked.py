"""Commands of rfgs in processes of their own that begin with everything loaded: forks of this one, which take no start.

What a fork may be limited or killed by is done to a real process: a full disk, SIGKILL, its limits.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Threads do not survive a fork.

DRAFT = (
    "a red cube", "--quality", "draft", "--steps", "20", "--splats", "200", "--views-per-step", "1", "--device", "cpu",
    "--no-viewer", "--engine", "torch", "--resolution", "32",
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


def warm_up(folder: Path) -> None:
    """Does a run in this process, in `folder`, so that forks have all imported.

    Their model, which is not what these programs are about, is one grey in closed form, and their videos are short.
    """
    import tqdm

    from rfgs.cli.main import main
    from rfgs.export.turntable import write_turntable
    from rfgs.runs import generate, recorder

    tqdm.tqdm.monitor_interval = 0  # A thread, which forks do not have.
    # Its usual lock is one for all forks, and who is killed with it in hand would stop all that come after.
    tqdm.tqdm.set_lock(threading.RLock())

    def short(splats: Any, path: Path, **_: Any) -> None:
        write_turntable(splats, path, frames=6, fps=6, size=64)

    generate.load_prior, recorder.write_turntable = lambda *_, **__: grey(), short
    main(["generate", *DRAFT, "--output", str(folder)])


def grey() -> Any:
    """A rectified flow that knows one grey, in latents that are blocks of 4x4 pixels."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    from rfgs.priors import Condition
    from rfgs.priors.flow import Flow, per_sample

    class Grey(Flow):
        name, image_size, vocabulary = "grey", 32, frozenset({"a", "red", "cube"})

        def embed(self, prompts: Sequence[str]) -> Condition:
            return Condition(torch.zeros(len(prompts), 1, 1))

        def encode(self, images: Any) -> Any:
            return avg_pool2d(2 * images - 1, 4)

        def decode(self, latents: Any) -> Any:
            return interpolate(latents / 2 + 0.5, scale_factor=4)

        def predict(self, x_t: Any, t: Any, condition: Condition) -> Any:
            return (x_t - 0.5) / per_sample(t, x_t)

    return Grey()


def command(arguments: Sequence[str], log: Path, before: Callable[[], object] = lambda: None) -> Ended:
    """Does `rfgs` with `arguments` in a fork, after `before`, and waits for its end."""
    return wait(start(arguments, log, before), log)


def start(arguments: Sequence[str], log: Path, before: Callable[[], object] = lambda: None) -> int:
    """Begins `rfgs` with `arguments` in a fork, after `before`; its process, for `wait`."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be(arguments, log, before)
    return child


def wait(child: int, log: Path) -> Ended:
    """How the command of that process ended, which wrote to `log`."""
    _, status, used = os.wait4(child, 0)
    text = log.read_text(encoding="utf-8", errors="replace")
    return Ended(
        os.waitstatus_to_exitcode(status),
        "\n".join(line for line in text.splitlines() if not re.search(r"\d(step/s|s/step)", line)),
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
        # As a program, whose output outlives its reader; Python's streams remember whether they led to a file.
        sys.argv[1:] = arguments
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
        main()
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
