"""Ctrl-C, the progress bar, and the last words of a run."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rfgs.cli.console import Progress, StopOnInterrupt, print_result


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # The handler runs between two instructions of the main thread.


def test_first_ctrl_c_asks_and_second_quits() -> None:
    said: list[str] = []
    stopped: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        with StopOnInterrupt(said.append, lambda: stopped.append(True)) as interrupt:
            assert not interrupt.pressed
            press_ctrl_c()
            assert interrupt.pressed and stopped == [True]
            assert said == ["stopping after this step, and writing what there is; Ctrl-C again quits at once"]
            press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before and len(said) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_a_job_or_terminal_asks_as_ctrl_c_does(
    number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    # The tests may run under nohup themselves.
    found = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, found))
    before = signal.getsignal(number)
    with StopOnInterrupt(lambda message: None, lambda: None) as interrupt:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert interrupt.stop()
        os.kill(os.getpid(), signal.SIGHUP)  # A closed terminal tells twice.
        time.sleep(0.01)
        assert interrupt.stop()
    assert signal.getsignal(number) is before


def test_a_closed_terminal_is_no_matter_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopOnInterrupt(lambda message: None, lambda: None) as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            assert not interrupt.pressed
    finally:
        signal.signal(signal.SIGHUP, before)


def test_second_ctrl_c_of_a_run_that_saves_waits_for_the_step_and_the_third_quits() -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        with StopOnInterrupt(said.append, lambda: None, saves=True) as interrupt:
            press_ctrl_c()
            assert interrupt.stop()
            press_ctrl_c()
            assert len(said) == 2 and "checkpoint" in said[1]
            with pytest.raises(KeyboardInterrupt):
                interrupt.stop()
            press_ctrl_c()


def test_ctrl_c_is_as_before_after_the_block() -> None:
    with StopOnInterrupt(lambda message: None, lambda: None):
        pass
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c()


def test_ctrl_c_opens_a_gate_that_the_loop_waits_at() -> None:
    from rfgs.viewer.gate import Gate

    gate = Gate()
    gate.pause()
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with StopOnInterrupt(lambda message: None, gate.stop) as interrupt:
        began = time.monotonic()
        gate.wait()  # For ever, without the Ctrl-C.
        assert time.monotonic() - began < 5
        assert interrupt.pressed and gate.stop_requested


def test_progress_shows_splats_loss_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.say("before the bar")
        for index in range(1, 5):
            progress.show(
                SimpleNamespace(index=index, total=4, loss=torch.tensor(0.125 / index), splats=range(1500))
            )
            progress.say(f"after {index}")
    err = capsys.readouterr().err
    assert err.startswith("before the bar\n") and "after 4\n" in err
    last = err.split("\r")[-1]
    assert "100%" in last and "4/4" in last and "1500 splats, loss 0.0312" in last and "step/s" in last


def test_progress_of_a_resumed_run_starts_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.show(SimpleNamespace(index=51, total=100, loss=torch.tensor(1.0), splats=range(10)))
    assert "51/100" in capsys.readouterr().err


def test_progress_follows_a_number_of_steps_that_changes(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for index, total in ((1, 9), (2, 3), (3, 3)):
            step = SimpleNamespace(index=index, total=total, loss=torch.tensor(1.0), splats=range(10))
            progress.show(step)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "100%" in last and "3/3" in last


def test_last_words(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"startup": 6.04, "prior": 10.0, "encode": 0.01, "render": 4.0, "rest": 0.96}
    record = {
        "splats": 3000,
        "steps_done": 40,
        "config": {"steps": 100},
        "seconds": seconds,
        "peak_memory": 3 * 2**29,
        "peak_gpu_memory": None,
    }
    result = SimpleNamespace(
        record=record, paths=[Path("runs/x-0/splats.ply"), Path("runs/x-0/turntable.mp4")]
    )
    print_result(result, Path("runs/x-0"))
    assert capsys.readouterr().out == (
        "\n"
        "3000 splats in 21.0 s, stopped after step 40 of 100\n"
        "  seconds: startup 6.0, prior 10.0, render 4.0, rest 1.0\n"
        "  peak memory: 1.50 GiB\n"
        "  runs/x-0/splats.ply\n"
        "  runs/x-0/turntable.mp4\n"
        "\n"
        "open it:  rfgs view runs/x-0\n"
        "go on:    rfgs generate --resume runs/x-0\n"
    )
    record.update(steps_done=100, peak_gpu_memory=2**30)
    print_result(result, Path("runs/x-0"))
    out = capsys.readouterr().out
    assert (
        "3000 splats in 21.0 s\n" in out and "1.50 GiB, 1.00 GiB on the GPU\n" in out and "go on:" not in out
    )
    # Made shorter on the way, and done.
    record.update(steps_done=60, changes=[{"step": 30, "setting": "steps", "old": 100, "new": 60}])
    print_result(result, Path("runs/x-0"))
    assert "stopped" not in capsys.readouterr().out
