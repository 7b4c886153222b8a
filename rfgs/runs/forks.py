"""Processes that begin with everything imported: forks of one process that has imported it once, by Python's own fork server.

To import torch and what is ours takes a good part of a draft (docs/batch.md), and a fork hundredths of a second. The process that
forks computes nothing: it has one thread, has called no kernel and looked at no GPU, and OpenVINO is not there yet. Where forks
are not safe (macOS, Windows) callers start processes anew. No torch here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from rfgs.runs.launch import SIGNALS

ABLE = sys.platform == "linux"
"""Whether this system's processes may be forks."""
IMPORTED = ("rfgs.runs.imported",)

_this = SimpleNamespace(began=time.perf_counter())


def began() -> float:
    """When this process began to do what it is for, by `time.perf_counter()`."""
    return float(_this.began)


def prepare() -> None:
    """Starts the process that is forked from, which then imports, in the background; once is enough."""
    from multiprocessing import forkserver, resource_tracker  # Not of every system.

    multiprocessing.get_context("forkserver").set_forkserver_preload(list(IMPORTED))
    with _held_back():
        resource_tracker.ensure_running()  # Which it would start, and which lets signals through again.
    with _held_back():
        forkserver.ensure_running()


class Fork:
    """A process that calls a function and ends, as `subprocess.Popen` has one.

    Its exit code is 0, that of SystemExit, or 1 after another exception, whose traceback it prints.

    Args:
        function: of a module, with `arguments` that can be pickled.
        output: a file that gets its stdout and stderr. There is nothing on its stdin.
        environment: what it finds beside this process's environment.
    """

    stdin = None

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Sequence[Any],
        *,
        output: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        prepare()
        context = multiprocessing.get_context("forkserver")
        work = _Work(function, arguments, output, {**os.environ, **(environment or {})})
        self._process = context.Process(target=work)
        with _held_back():
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal's number below 0; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self) -> int:
        """The same, once it has ended."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Work:
    """What a fork does; the file goes to it as itself."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Sequence[Any],
        output: int,
        environment: Mapping[str, str],
    ) -> None:
        self._function, self._arguments = function, tuple(arguments)
        self._output, self._environment = output, dict(environment)

    def __getstate__(self) -> dict[str, Any]:
        from multiprocessing.reduction import DupFd  # Not of every system.

        return {**self.__dict__, "_output": DupFd(self._output)}

    def __call__(self) -> None:
        _this.began = time.perf_counter()
        # A session of its own: a terminal's Ctrl-C is for whoever started it, to pass on.
        os.setsid()
        file = self._output.detach()  # type: ignore[attr-defined]  # What was pickled.
        for number in (1, 2):
            os.dup2(file, number)
        os.close(file)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
        os.environ.clear()
        os.environ.update(self._environment)
        # What libraries start, OpenVINO's telemetry for one, they start as elsewhere, and not by a server of their own.
        multiprocessing.set_start_method(None, force=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        torch = sys.modules.get("torch")
        if torch is not None and "OMP_NUM_THREADS" in os.environ:
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # It read that when it was imported.
        self._function(*self._arguments)


@contextmanager
def _held_back() -> Any:
    """What a terminal sends to all of its processes waits meanwhile, and for the processes that are started in here always."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
