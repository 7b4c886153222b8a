"""Several processes make the asset that one makes: two of them on the CPU, by gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rfgs.cli.main import main
from rfgs.errors import UserError
from rfgs.export import read
from rfgs.guidance.share import Share
from rfgs.render import render
from rfgs.render.cameras import Cameras, turntable
from rfgs.splats import Splats
from tests.runs import together

ROOT = Path(__file__).parent.parent.parent


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """What two processes came to, of which this one is the first, and where their runs are."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    several = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.runs.together", str(folder)],
        env={**os.environ, **several, "PYTHONPATH": str(ROOT), "RANK": "1", "LOCAL_RANK": "1"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    threads = torch.get_num_threads()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**several, "RANK": "0", "LOCAL_RANK": "0"}.items():
                patch.setenv(name, value)
            put_back(patch)
            together.main(folder)
        said = other.communicate(timeout=300)[1]
        assert other.returncode == 0, said
    finally:
        torch.set_num_threads(threads)
        other.kill()
        other.wait()
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2))
    return first, second, folder


def put_back(patch: pytest.MonkeyPatch) -> None:
    """Has what `together` replaces be as before in the end."""
    for place, name in (
        (together.runs, "load_prior"),
        (together.runs, "is_small"),
        (together.recorder, "write_turntable"),
    ):
        patch.setattr(place, name, getattr(place, name))


@pytest.mark.parametrize("case", together.CASES)
def test_steps_are_those_of_one_process(case: str, both: tuple[dict, dict, Path]) -> None:
    first, second, _ = both
    alone = together.steps(case, Share())
    assert [step["views"] for step in first[case]] == [3] * len(alone)
    assert [step["views"] for step in second[case]] == [2] * len(alone)
    # A student says at first nearly what its prior does, and rounding is a larger part of the difference.
    tolerance = 1e-5 if case == "learned" else 1e-6
    # After one step Adam's mean of the gradients is a tenth of the gradient.
    for number, moments in alone[0]["optimizer"]["state"].items():
        gradient = first[case][0]["optimizer"]["state"][number]["exp_avg"]
        assert moments["exp_avg"].norm() > 0 and relative(gradient, moments["exp_avg"]) < tolerance
    assert float(first[case][0]["loss"]) == pytest.approx(float(alone[0]["loss"]), rel=1e-6)
    for name, watched in alone[0]["growth"].items():
        assert relative(first[case][0]["growth"][name], watched) < 1e-6
    assert [step["evaluations"] for step in first[case]] == [step["evaluations"] for step in alone]
    assert torch.equal(first[case][-1]["generator"], alone[-1]["generator"])
    # In the end both processes have the same bits, and what one has up to rounding.
    for name, value in alone[-1]["splats"].items():
        assert torch.equal(first[case][-1]["splats"][name], second[case][-1]["splats"][name])
        assert first[case][-1]["splats"][name].shape == value.shape
    if case == "learned":
        for name, value in alone[-1]["guidance"]["state"]["lora"].items():
            assert relative(first[case][-1]["guidance"]["state"]["lora"][name], value) < 1e-4


def noise(splats: Splats, truth: Splats) -> float:
    """PSNR of the renders of one asset against those of another, dB."""
    cameras, white = turntable(6, 64, 64), torch.ones(3)
    difference = render(splats, cameras, white).rgb - render(truth, cameras, white).rgb
    return float(-10 * difference.square().mean().clamp_min(1e-12).log10())


def test_the_asset_is_that_of_one_process(both: tuple[dict, dict, Path]) -> None:
    start = together.start()
    alone = Splats.from_parameters(together.steps("grown", Share())[-1]["splats"])
    shared = Splats.from_parameters(both[0]["grown"][-1]["splats"])
    assert len(shared) == len(alone) > 60
    # How far both have come from where they started, and how far they are from each other.
    assert noise(shared, start) == pytest.approx(noise(alone, start), abs=0.1)
    assert noise(alone, start) < 30 < 45 < noise(shared, alone)


def test_a_run_is_steered_stopped_and_gone_on_with(
    both: tuple[dict, dict, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back(monkeypatch)
    together.quick()
    together.stopped(tmp_path / "alone", Share())
    stopped = json.loads((tmp_path / "alone" / "run.json").read_text())
    assert stopped["state"] == "stopped" and stopped["steps_done"] == 5
    together.run(tmp_path / "alone", together.JOB, Share(), resume=True)
    alone, shared = (
        json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "alone", both[2] / "stopped")
    )
    assert shared["state"] == "finished" and shared["processes"] == 2 and "processes" not in alone
    assert shared["resumed_after_steps"] == alone["resumed_after_steps"] == [5]
    changes = [(change["step"], change["setting"], change["new"]) for change in shared["changes"]]
    assert sorted(changes) == [(3, "guidance_scale", 1.5), (3, "views_per_step", 2)]
    assert noise(read(both[2] / "stopped"), read(tmp_path / "alone")) > 45


def test_what_ends_one_ends_all_in_one_line(both: tuple[dict, dict, Path]) -> None:
    first, second, folder = both
    assert first["broken"] == "Ended: process 2 of 2: this GPU has had enough; take another"
    assert second["broken"] == "UserError: this GPU has had enough; take another"
    record = json.loads((folder / "broken" / "run.json").read_text())
    assert record["state"] == "failed" and record["steps_done"] == 2
    assert (folder / "broken" / "checkpoint.pt").exists()
    assert first["too few"] == second["too few"] and "less than the 2 processes" in first["too few"]


def test_shares_hold_each_view_once() -> None:
    for processes in (1, 2, 3, 5):
        for views in range(processes, 9):
            shares = [Share(rank, processes).of(views) for rank in range(processes)]
            rows = [share.take(torch.arange(views)) for share in shares]
            assert torch.equal(torch.cat(rows), torch.arange(views))
            assert max(map(len, rows)) - min(map(len, rows)) <= 1
            assert max(map(len, rows)) == shares[0].largest(views)
            assert sum(share.weight for share in shares) == pytest.approx(1)
    cameras = turntable(5, 8, 8)
    taken = Share(1, 2).of(5).take(cameras)
    assert isinstance(taken, Cameras) and torch.equal(taken.viewmats, cameras.viewmats[3:])
    with pytest.raises(UserError, match="is less than the 3 processes"):
        Share(0, 3).of(2)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--gpus", "0"], "--gpus 0: has to be at least 1"),
        (["--gpus", "2"], "--gpus 2: this machine has no NVIDIA GPU"),
    ],
)
def test_gpus_that_there_are_not_are_told(
    arguments: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("rfgs.models.machine.gpus", list)
    with pytest.raises(SystemExit) as ended:
        main(["generate", "a red cube", "--no-viewer", *arguments])
    assert ended.value.code == 2 and line in capsys.readouterr().err
