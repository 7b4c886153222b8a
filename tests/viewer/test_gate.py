"""The gate: what passes, what waits, and that waiting ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rfgs.viewer.gate import Gate


def passes(gate: Gate, count: int) -> tuple[threading.Thread, list[int]]:
    """A thread that goes through the gate `count` times, and the list it notes each passage in."""
    done: list[int] = []

    def walk() -> None:
        for number in range(count):
            gate.wait()
            done.append(number)

    thread = threading.Thread(target=walk, daemon=True)
    thread.start()
    return thread, done


def settle(done: list[int], count: int) -> None:
    """Waits until `count` passages happened, then long enough to see one too many."""
    deadline = time.monotonic() + 300
    while len(done) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)


def wait_until(fine: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_open_gate_does_not_wait() -> None:
    gate = Gate()
    assert not gate.would_wait()
    start = time.perf_counter()
    gate.wait()
    assert time.perf_counter() - start < 0.1


def test_pause_steps_and_resume() -> None:
    gate = Gate()
    gate.pause()
    thread, done = passes(gate, 10)
    settle(done, 0)
    assert done == [] and gate.paused
    gate.step_once()
    settle(done, 1)
    assert done == [0] and gate.paused
    gate.step_once()
    gate.step_once()
    settle(done, 3)
    assert done == [0, 1, 2]
    gate.resume()
    thread.join(5)
    assert len(done) == 10 and not gate.paused


def test_step_once_while_running_pauses() -> None:
    gate = Gate()
    gate.step_once()
    _, done = passes(gate, 1)
    settle(done, 0)
    assert done == [] and gate.paused
    gate.stop()


def test_pausing_again_forgets_steps_not_yet_taken() -> None:
    gate = Gate()
    gate.pause()
    gate.step_once()
    gate.pause()
    assert gate.would_wait()


def test_stop_ends_a_pause() -> None:
    gate = Gate()
    gate.pause()
    thread, done = passes(gate, 2)
    settle(done, 0)
    gate.stop()
    thread.join(5)
    assert done == [0, 1] and gate.stop_requested and not gate.paused


def test_the_mark_is_there_while_a_run_waits_and_without_it_the_run_goes_on(tmp_path: Path) -> None:
    mark = tmp_path / ".paused"
    mark.touch()  # Of a run that was killed while it waited.
    gate = Gate(mark)
    assert not mark.exists()
    gate.pause()
    thread, done = passes(gate, 3)
    wait_until(mark.exists)
    gate.step_once()
    settle(done, 1)
    wait_until(mark.exists)
    assert done == [0]
    mark.unlink()
    thread.join(30)
    assert done == [0, 1, 2] and not gate.paused and not mark.exists()


def test_a_mark_that_cannot_be_made_holds_nothing_up(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "no folder" / ".paused")
    gate.pause()
    thread, done = passes(gate, 1)
    time.sleep(0.7)  # Longer than the mark is looked for.
    assert done == []
    gate.resume()
    thread.join(30)
    assert done == [0]


def test_an_interrupted_pause_leaves_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(tmp_path / ".paused")
    gate.pause()

    def interrupted(timeout: float) -> bool:
        assert (tmp_path / ".paused").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(gate._changed, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gate.wait()
    assert not (tmp_path / ".paused").exists()
