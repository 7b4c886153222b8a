"""The gate: what passes, what waits, and that waiting ends."""

from __future__ import annotations

import threading
import time

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
