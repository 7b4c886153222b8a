"""`rfgs generate --gpus`: processes that the command starts itself, on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rfgs.cli.main import main
from rfgs.runs import launch

PROGRAM = """
from bench import forked
from rfgs.cli.main import main
from rfgs.runs import generate, recorder

recorder.write_turntable = lambda splats, path, **_: path.touch()
generate.load_prior = lambda *_, **__: forked.grey()
main()
"""
"""`rfgs` with a model that takes no time."""


def command(folder: Path, *arguments: str) -> list[str]:
    return ["generate", *arguments, "--device", "cpu", "--gpus", "2", "--no-viewer", "--output", str(folder)]


def test_two_processes_make_one_asset(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(launch, "_PROGRAM", PROGRAM)
    little = ("--steps", "2", "--splats", "50", "--views-per-step", "2", "--engine", "torch")
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path / "run", "a red cube", *little))
    said = capfd.readouterr()
    assert ended.value.code == 0, said.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "finished" and record["processes"] == 2
    assert said.out.count("open it:") == 1 and said.err.count("making ") == 1
    with pytest.raises(SystemExit) as again:
        main(["generate", "--resume", str(tmp_path / "run"), "--gpus", "2", "--no-viewer"])
    said = capfd.readouterr()
    assert again.value.code == 2 and said.err.startswith("rfgs: ") and "did its 2 steps already" in said.err
    assert said.err.count("\n") == 1 and not said.out
