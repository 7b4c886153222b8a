"""Work beside the run: calls are joined, rests are kept, and cut short where somebody waits."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from rfgs.viewer.background import Background, in_own_thread


def no_report(name: str, problem: BaseException) -> None:
    raise AssertionError(f"{name}: {problem}")


def test_calls_that_come_while_it_is_busy_are_joined() -> None:
    calls: list[int] = []
    started, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def job() -> None:
        calls.append(1)
        started.release()
        assert go_on.acquire(timeout=30)

    background = Background("test", job, no_report, period=0.0)
    background.wake()
    assert started.acquire(timeout=30)
    for _ in range(10):
        background.wake()
    go_on.release()
    assert started.acquire(timeout=30)
    go_on.release()
    time.sleep(0.1)
    assert len(calls) == 2
    background.close()


def test_it_rests_unless_there_is_a_hurry() -> None:
    times: list[float] = []
    called = threading.Semaphore(0)

    def job() -> None:
        times.append(time.monotonic())
        called.release()

    background = Background("test", job, no_report, period=600.0)
    background.wake()
    assert called.acquire(timeout=30)
    background.wake()
    assert not called.acquire(timeout=0.2)
    background.wake(hurry=True)
    assert called.acquire(timeout=30)
    background.wake()
    assert not called.acquire(timeout=0.2)  # The hurry was for one call only.
    background.close()


def test_a_job_that_raises_is_called_again() -> None:
    reports: list[str] = []
    called = threading.Semaphore(0)

    def job() -> None:
        called.release()
        raise ZeroDivisionError("a job")

    background = Background(
        "test", job, lambda name, problem: reports.append(f"{name}: {problem}"), period=0.0
    )
    for _ in range(2):
        background.wake()
        assert called.acquire(timeout=30)
    background.close()
    assert reports == ["test: a job"] * 2


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="needs Linux, which lists a process's threads"
)
def test_what_computes_apart_leaves_no_threads_behind() -> None:
    """They would have torch's own threads sleep between any two operations, and the run with them."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        count = len(list(Path("/proc/self/task").iterdir()))
        inside, result = in_own_thread(
            lambda: (
                float((2 * torch.ones(1_000_000)).sum()),
                len(list(Path("/proc/self/task").iterdir())),
            )[::-1]
        )
        assert result == 2_000_000.0 and inside > count + 1  # Itself, and its helpers.
        deadline = time.monotonic() + 300
        while len(list(Path("/proc/self/task").iterdir())) > count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(Path("/proc/self/task").iterdir())) <= count
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ZeroDivisionError):
        in_own_thread(lambda: 1 / 0)
