"""The pace of sending, against runs whose steps take longer while a simulated browser draws."""

from __future__ import annotations

import random

import pytest

from rfgs.viewer.pace import LONGEST, SHARE, Pace


def simulate(
    step: float, drawing: float, *, jitter: float = 0.1, seconds: float = 120.0
) -> tuple[float, float]:
    """Seconds from one sending to the next at the end, and the share of the time that was lost to drawing.

    Args:
        step: seconds of a step that nobody disturbs;  drawing: of the run that a browser takes after each sending.
        jitter: standard deviation of steps' durations, relative.
    """
    pace, dice = Pace(1.0), random.Random(0)
    for index in range(20):  # Before anybody watched.
        pace.step(step, index * step)
    now, sent, owed, lost = 0.0, 0.0, 0.0, 0.0
    while now < seconds:
        took = step * max(0.2, dice.gauss(1, jitter))
        # While it draws, the run gets half of the time.
        taken = min(owed, took)
        owed -= taken
        lost += taken if now > seconds / 2 else 0.0
        now += took + taken
        pace.step(took + taken, now)
        if now - sent >= pace.period:
            pace.sent(now)
            sent, owed = now, drawing
    return pace.period, lost / (seconds / 2)


@pytest.mark.parametrize("step", [0.02, 0.1, 0.4])
def test_a_browser_that_takes_nothing_is_sent_all_it_may_have(step: float) -> None:
    assert simulate(step, 0.0)[0] < 1.3


@pytest.mark.parametrize("step", [0.02, 0.1, 0.4])
def test_one_that_draws_on_the_runs_cores_waits_longer(step: float) -> None:
    period, lost = simulate(step, 0.3)
    assert 2.0 < period <= LONGEST and 0.3 * SHARE < lost < 1.5 * SHARE


def test_there_is_an_end_to_waiting() -> None:
    assert simulate(0.1, 1.2)[0] > 0.9 * LONGEST


def test_slow_steps_are_sent_every_other_time() -> None:
    period, _ = simulate(3.0, 0.0)
    assert 5.0 < period < 7.5


def test_a_browser_that_leaves_no_trace_is_caught_up_with() -> None:
    """What loading a page costs is not what it costs to watch."""
    pace, now = Pace(1.0), 0.0
    for took in [0.1] * 20 + [1.0] * 3 + [0.1] * 200:
        now += took
        pace.step(took, now)
        if now - pace._sent >= pace.period:
            pace.sent(now)
    assert pace.period < 1.1
