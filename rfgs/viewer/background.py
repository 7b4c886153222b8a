"""Work beside the optimization: on a thread of its own, at a bounded rate, and never able to stop a run."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Report = Callable[[str, BaseException], None]


class Background:
    """Calls `job` on a thread of its own after `wake`; calls that come while it is busy are joined into one.

    Args:
        name: for reports.
        job: the work. It reads the newest state itself, so that joined calls lose nothing.
        report: called with `name` and the exception, if `job` raises; the thread goes on.
        period: least seconds from one start to the next.
        duty: greatest share of the time spent in `job`, in (0, 1]: after a job that took d seconds, the
            thread rests d (1 / duty - 1) seconds. It bounds what a viewer takes from the optimization on a
            machine with few cores.
    """

    def __init__(
        self, name: str, job: Callable[[], None], report: Report, *, period: float, duty: float = 1.0
    ) -> None:
        self._name, self._job, self._report, self._period, self._duty = name, job, report, period, duty
        self._wanted = threading.Event()
        self._hurry = threading.Event()
        self._closed = threading.Event()
        self._begun = self._ended = 0  # Calls so far.
        self._counted = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"rfgs-viewer-{name}", daemon=True)
        self._thread.start()

    def wake(self, *, hurry: bool = False) -> None:
        """Asks for one more call, soon; returns at once.

        Args:
            hurry: cut a rest short, since somebody waits for it, or the run needs no time just now.
        """
        if hurry:
            self._hurry.set()
        self._wanted.set()

    def settle(self, timeout: float) -> None:
        """Has the job done once more from the state as it is now, and waits for its end, at most `timeout` seconds."""
        with self._counted:
            wanted = self._begun + 1
            self.wake(hurry=True)
            self._counted.wait_for(lambda: self._ended >= wanted or self._closed.is_set(), timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Lets a running job end, at most `timeout` seconds, and calls no more."""
        self._closed.set()
        self.wake(hurry=True)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._closed.is_set():
                return
            self._wanted.clear()
            self._hurry.clear()
            with self._counted:
                self._begun += 1
            start = time.perf_counter()
            try:
                self._job()
            except Exception as problem:
                self._report(self._name, problem)
            with self._counted:
                self._ended = self._begun
                self._counted.notify_all()
            took = time.perf_counter() - start
            self._hurry.wait(max(self._period - took, took * (1 / self._duty - 1)))


def in_own_thread(action: Callable[[], T]) -> T:
    """What `action`, which computes with torch, returns; on a thread that ends with it.

    Each thread that computes on more than one core gets helpers of its own from OpenMP, which stay as long as the thread.
    While there are more of them than cores, GNU's runtime lets no thread wait awake for its helpers (see `rfgs`), which
    slowed a run with a small model on a CPU by a third (docs/viewer.md).
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(action).result()


def describe(problem: BaseException) -> str:
    """One line for a panel: the kind of the exception, its message, and where it was raised."""
    frames = traceback.extract_tb(problem.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    message = str(problem).splitlines()[0] if str(problem) else ""
    return f"{type(problem).__name__}: {message}{where}"
