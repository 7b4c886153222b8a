"""The command as its user types it, on the embedded model: stopped by Ctrl-C, looked at, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rfgs.cli.main import main
from rfgs.export import read_ply

RUN = "runs/a-red-cube-on-a-blue-cylinder-0"


def rfgs(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    # Not through a shell, so that Ctrl-C is not ignored as it is for a shell's background jobs.
    return subprocess.Popen(
        [sys.executable, "-c", "from rfgs.cli.main import main; main()", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_generate_stop_resume_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ["--steps", "100000", "--splats", "200", "--views-per-step", "2"]
    run = rfgs(tmp_path, "generate", "a red cube on a blue cylinder", *long)
    # The first line of the bar says that the loop is running.
    seen = ""
    while "1/100000" not in seen:
        piece = os.read(run.stderr.fileno(), 4096).decode()
        assert piece, f"ended early: {seen}"
        seen += piece
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0 and "stopping after this step" in seen + err
    assert f"open it:  rfgs view {RUN}\n" in out and f"go on:    rfgs generate --resume {RUN}\n" in out
    record = json.loads((tmp_path / RUN / "run.json").read_text())
    assert record["state"] == "stopped" and 0 < record["splats"] <= 200  # without haze
    done = record["steps_done"]
    assert 1 <= done < 100000
    first = read_ply(tmp_path / RUN / "splats.ply").means

    began = time.perf_counter()
    resumed = rfgs(tmp_path, "generate", "--resume", RUN, "--steps", str(done + 3))
    out, err = resumed.communicate(timeout=600)
    wall = time.perf_counter() - began
    assert resumed.returncode == 0, err
    earlier, record = record, json.loads((tmp_path / RUN / "run.json").read_text())
    assert record["state"] == "finished" and record["steps_done"] == done + 3
    assert record["resumed_after_steps"] == [done]
    means = read_ply(tmp_path / RUN / "splats.ply").means
    # Which splats are haze may change, too.
    assert first.shape != means.shape or not np.allclose(first, means)
    # What the record says it took is what it took, but for starting Python and ending it.
    took = sum(record["seconds"].values()) - sum(earlier["seconds"].values())
    assert 0.3 * wall < took < wall

    # In this process: two more would import for ten seconds to do what takes one.
    monkeypatch.chdir(tmp_path)
    for name in ("out.glb", "out.png"):
        main(["export", RUN, name])
        assert capsys.readouterr().out == f"{name}\n"
    with Image.open(tmp_path / "out.png") as picture, Image.open(tmp_path / RUN / "turntable.png") as made:
        assert picture.size == made.size
        # The file turns the axes and back, which costs a rounding here and there.
        assert np.abs(np.asarray(picture, float) - np.asarray(made, float)).max() <= 2
    assert (tmp_path / RUN / "turntable.mp4").stat().st_size > 1000
