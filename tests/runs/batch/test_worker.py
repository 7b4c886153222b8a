"""The function that makes one asset, and its process, with a fake in the place of `generate`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rfgs.errors import UserError
from rfgs.runs import folders
from rfgs.runs.batch import best
from rfgs.runs.batch.plan import Asset, state_of
from rfgs.runs.batch.worker import make, of_text, to_text
from rfgs.runs.holding import check_free
from rfgs.runs.job import Job

JOB = Job("a red mug", settings={"steps": 2, "noise_range": (0.1, 0.9)})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of `generate` was to go on; each comes to a whole run."""
    calls: list[bool] = []

    def generate(job: Job, folder: Path, *, resume: bool, on_start: Any, **_: Any) -> None:
        on_start(None, None)
        calls.append(resume)
        record = folders.read_record(folder)
        for name in (folders.SPLATS, folders.VIDEO, folders.STRIP):
            (folder / name).write_bytes(b"")
        record.update(state="finished", steps_done=2)
        (folder / folders.RECORD).write_text(json.dumps(record))

    monkeypatch.setattr("rfgs.runs.generate.generate", generate)
    monkeypatch.setattr(best, "score", lambda splats, prompt, name: 20.0)
    monkeypatch.setattr("rfgs.export.read_ply", lambda path: None)
    return calls


def test_a_worker_gets_what_it_is_to_make() -> None:
    asset = Asset(replace(JOB, start="/x.ply", seed=7), Path("runs/a b"), "truth")
    assert of_text(to_text(asset)) == asset


def test_nothing_is_made_twice(asked: list[bool], tmp_path: Path) -> None:
    asset = Asset(JOB, tmp_path / "deep" / "a-red-mug-0")
    make(asset)
    make(asset)
    assert asked == [False] and state_of(asset) == "done"
    check_free(asset.folder)
    make(replace(asset, score="truth"))  # Only the score is missing.
    assert asked == [False] and folders.read_record(asset.folder)["scores"] == {"truth": 20.0}
    (asset.folder / folders.VIDEO).unlink()
    left = asset.folder / ".splats.01234567.ply"
    left.touch()
    make(asset)
    assert asked == [False, True] and not left.exists()
    with pytest.raises(UserError, match="other settings"):
        make(replace(asset, job=replace(JOB, guidance="rfds")))


PROCESS = """
import json, sys
from rfgs.runs.batch import worker
from rfgs.runs import generate

def fake(job, folder, *, on_start, stop, **_):
    on_start()
    print("begun", flush=True)
    while not stop():
        pass

sys.modules["rfgs.runs.generate"].generate = fake
sys.exit(worker.main(sys.argv[1]))
"""


def test_a_worker_stops_where_its_driver_is_gone(tmp_path: Path) -> None:
    # `generate` itself takes seconds to import.
    program = PROCESS.replace(
        "from rfgs.runs import generate\n",
        "import types; sys.modules['rfgs.runs.generate'] = types.ModuleType('fake')\n",
    )
    asset = Asset(JOB, tmp_path / "a-red-mug-0")
    process = subprocess.Popen(
        [sys.executable, "-c", program, to_text(asset)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        _, err = process.communicate()  # Which closes its stdin.
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (130, "rfgs: stopped\n")
    assert state_of(asset) == "begun"
    check_free(asset.folder)
