"""A run's folder: never over another run, and readable again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from rfgs.errors import UserError
from rfgs.runs.checkpoints import load_checkpoint
from rfgs.runs.claims import claim_folder, leave
from rfgs.runs.folders import job_to_resume, note_job, read_record, slug
from rfgs.runs.holding import release
from rfgs.runs.job import Job

PROMPT = "a red cube on a blue cylinder"


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        (PROMPT, "a-red-cube-on-a-blue-cylinder"),
        ("  A Red/Cube!  ", "a-red-cube"),
        ("../../etc/passwd", "etc-passwd"),
        ("a café, in naïve style", "a-café-in-naïve-style"),
        ("ein_großer Würfel", "ein-großer-würfel"),
        ("!?", "run"),
        ("word " * 40, "word-word-word-word-word-word-word-word-word"),
        ("x" * 300, "x" * 48),
    ],
)
def test_slug(prompt: str, name: str) -> None:
    assert slug(prompt) == name


def test_each_new_run_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for seed in (0, 0, 1, 0):
        folder = claim_folder(PROMPT, seed)
        (folder / "run.json").write_text("{}")
        names.append(folder.as_posix().removeprefix("runs/a-red-cube-on-a-blue-cylinder-"))
    assert names == ["0", "0-2", "1", "0-3"]
    assert claim_folder(PROMPT, 0, overwrite=True) == Path("runs/a-red-cube-on-a-blue-cylinder-0")


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    assert claim_folder(PROMPT, 0, tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    assert claim_folder(PROMPT, 0, tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    leave(tmp_path / "new" / "folder")
    assert not (tmp_path / "new" / "folder").exists()


HOLDING = """
import sys, time
from pathlib import Path
from rfgs.runs.holding import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    """By a lock that goes when its process is killed; the refusal says whose it is."""
    unfinished(tmp_path, Job(PROMPT), 40)
    other = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        for attempt in (
            lambda: job_to_resume(tmp_path),
            lambda: claim_folder(PROMPT, 0, tmp_path),
            lambda: claim_folder(PROMPT, 0, tmp_path, overwrite=True),
        ):
            with pytest.raises(UserError, match=f"process {other.pid} on .* is at work in it"):
                attempt()
        assert (tmp_path / "run.json").exists()
    finally:
        other.kill()
        other.wait()
    assert job_to_resume(tmp_path) == Job(PROMPT)
    release(tmp_path)


def test_a_folder_that_is_held_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("runs/a-red-cube-on-a-blue-cylinder-0")
    place.mkdir(parents=True)
    other = subprocess.Popen([sys.executable, "-c", HOLDING, str(place)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        assert claim_folder(PROMPT, 0).name == "a-red-cube-on-a-blue-cylinder-0-2"
    finally:
        other.kill()
        other.wait()


def test_temporary_files_of_a_killed_run_go(tmp_path: Path) -> None:
    left = [
        ".run.0123abcd.json",
        ".checkpoint.0123abcd.pt",
        "previews/.step-000006.0123abcd.png",
        ".turntable.89abcdef.mp4",
    ]
    kept = [".mine.0123abcd.json", ".run.json.bak"]
    unfinished(tmp_path, Job(PROMPT), 40)
    (tmp_path / "previews").mkdir()
    for name in left + kept:
        (tmp_path / name).touch()
    job_to_resume(tmp_path)
    assert not any((tmp_path / name).exists() for name in left)
    assert all((tmp_path / name).exists() for name in kept)


def test_a_folder_in_which_a_run_was_killed_before_its_record_is_free(tmp_path: Path) -> None:
    left = [".run.json", ".run.0123abcd.json", ".strip.0123abcd.png", ".holder"]
    for name in left:
        (tmp_path / name).touch()
    assert claim_folder(PROMPT, 0, tmp_path) == tmp_path
    release(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    written = [
        "run.json",
        "checkpoint.pt",
        "checkpoint-before.pt",
        "splats.ply",
        "turntable.mp4",
        "turntable.png",
        "previews/step-000010.png",
        "snapshots/step-000010.ply",
        "image.png",
        "strip.png",
        "curve.png",
        "noise.pt",
    ]
    kept = ["notes.txt", "previews/mine.png", "snapshots/mine.ply", "other/splats.ply"]
    for name in written + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    with pytest.raises(UserError, match="already holds a run"):
        claim_folder(PROMPT, 0, tmp_path)
    assert (tmp_path / "run.json").read_text() == "run.json"
    claim_folder(PROMPT, 0, tmp_path, overwrite=True)
    release(tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(
        [".lock", *kept]
    )


def unfinished(folder: Path, job: Job, steps_done: int) -> None:
    noted = {**asdict(job), "from_a_newer_version": 1}
    record = {"job": noted, "config": {"steps": 100}, "steps_done": steps_done}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")


def test_the_job_of_an_unfinished_run(tmp_path: Path) -> None:
    job = Job(PROMPT, settings={"guidance_scale": 12.5, "negative_prompt": ""})
    unfinished(tmp_path, job, 40)
    assert job_to_resume(tmp_path) == job
    assert job_to_resume(tmp_path, steps=200).settings == {**job.settings, "steps": 200}
    with pytest.raises(UserError, match="did its 40 steps already; .* --steps 80"):
        job_to_resume(tmp_path, steps=39)


def test_a_run_that_did_its_steps_is_finished_once_all_its_files_are_there(tmp_path: Path) -> None:
    job = Job(PROMPT, settings={"noise_range": (0.1, 0.9)})
    unfinished(tmp_path, job, 100)
    assert job_to_resume(tmp_path) == job
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "state": "finished"}))
    for name in ("splats.ply", "turntable.mp4", "turntable.png"):
        assert job_to_resume(tmp_path) == job
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="did its 100 steps already; .* --steps 200"):
        job_to_resume(tmp_path)


def test_a_run_that_was_killed_before_its_first_step_has_a_job_too(tmp_path: Path) -> None:
    note_job(tmp_path, Job(PROMPT, seed=3))
    assert job_to_resume(tmp_path) == Job(PROMPT, seed=3) and load_checkpoint(tmp_path) is None
    release(tmp_path)
    leave(tmp_path)
    assert not tmp_path.exists()


def test_the_job_of_a_run_of_an_older_version(tmp_path: Path) -> None:
    """It noted each setting as a field of the job, given or not."""
    older = {"prompt": PROMPT, "model": "tiny-sd", "seed": 3, "t5": "keep", "guidance": "vsd"}
    settings = {"steps": 100, "perp_neg": False, "lora_rank": 8}
    noted = {**older, **settings, "negative_prompt": "", "inner_steps": None}
    record = {"job": noted, "config": {"steps": 100}, "steps_done": 4}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "checkpoint.pt").touch()
    assert job_to_resume(tmp_path) == Job(PROMPT, "tiny-sd", "vsd", settings=settings, seed=3)


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    unfinished(tmp_path, Job(PROMPT), 40)
    with pytest.raises(
        UserError, match=r"checkpoint\.pt cannot be read; start the run again with --overwrite"
    ):
        load_checkpoint(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="holds no run"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"job": None},
        {"job": {}},
        {"job": {"prompt": 1}},
        {"job": {"prompt": "x", "seed": -1}},
        {"job": {"prompt": "x", "settings": []}},
        {"job": {"prompt": "x", "device": "tpu"}},
        {"steps_done": "7"},
        {"config": {"steps": None}},
    ],
)
def test_a_record_of_something_else_is_told_in_a_line(tmp_path: Path, change: dict) -> None:
    unfinished(tmp_path, Job(PROMPT), 40)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(UserError, match="run.json is damaged .*; start the run again with --overwrite"):
        job_to_resume(tmp_path)
    release(tmp_path)
    for text in ("[]", "[" * 100_000):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UserError, match="holds no run"):
            job_to_resume(tmp_path)
