"""`rfgs batch` as its user types it: checked line by line, made, resumed, its page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rfgs.cli.main import main
from rfgs.runs import folders, forks
from rfgs.runs.batch import local
from rfgs.runs.batch.local import Ended
from rfgs.runs.batch.plan import Asset


def finish(asset: Asset) -> None:
    """The files of a whole run."""
    asset.folder.mkdir(parents=True)
    folders.note_job(asset.folder, asset.job)
    for name in (folders.SPLATS, folders.VIDEO, folders.STRIP):
        (asset.folder / name).touch()
    record = folders.read_record(asset.folder)
    record.update(state="finished", seconds={"prior": 2.0}, splats=9)
    if asset.score:
        record["scores"] = {asset.score: float(asset.job.seed)}
    (asset.folder / folders.RECORD).write_text(json.dumps(record))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Asset]:
    """What was asked to be made, which is at once; the working folder is empty."""
    found: list[Asset] = []

    def run(assets: Sequence[Asset], places: Any, **_: Any) -> Iterator[Ended]:
        for asset in assets:
            found.append(asset)
            finish(asset)
            yield Ended(asset)

    monkeypatch.setattr(local, "run", run)
    monkeypatch.chdir(tmp_path)
    return found


def test_from_a_file_to_a_page_and_nothing_twice(
    made: list[Asset], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.txt").write_text("a red cube\na cactus\na red cube\n")
    command = ["batch", "a.txt", "--seeds", "2", "--quality", "draft", "--steps", "7"]
    main([*command, "--dry-run"])
    assert not Path("runs").exists() and "4 assets in runs/batch: 4 not begun" in capsys.readouterr().out
    main(command)
    names = ["a-red-cube-0", "a-red-cube-1", "a-cactus-0", "a-cactus-1"]
    assert [asset.folder.name for asset in made] == names
    assert {(asset.job.quality, asset.job.settings["steps"]) for asset in made} == {("draft", 7)}
    assert "4/4 a cactus, seed 1: 2 s" in capsys.readouterr().out
    Path("a.txt").write_text("a blue mug\na cactus\n")  # Lines come and go.
    main(command)
    assert [asset.folder.name for asset in made[4:]] == ["a-blue-mug-0", "a-blue-mug-1"]
    assert "4 assets in runs/batch: 2 made, 2 not begun" in capsys.readouterr().out
    page = Path("runs/batch/index.html").read_text()
    assert (
        page.count("<figure") == 4 and "a-red-cube" not in page and 'src="a-blue-mug-0/turntable.png"' in page
    )
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--guidance-scale", "9"])
    told = "rfgs: runs/batch/a-blue-mug-0: holds a run with other settings (guidance_scale); choose another folder"
    assert exit_.value.code == 2 and told in capsys.readouterr().err


def test_a_table_has_settings_of_its_own(made: list[Asset]) -> None:
    Path("a.csv").write_text(
        "prompt,seed,guidance,inner_steps,backend,engine,steps\n"
        "a red cube,5,rfds-rev,3,,,\na red cube,,,,tiny-sd,torch,\na cactus,,,,,,9\n"
    )
    main(["batch", "a.csv", "--steps", "7", "--seed", "1"])
    first, second, third = (asset.job for asset in made)
    assert (first.seed, first.guidance, first.settings) == (5, "rfds-rev", {"steps": 7, "inner_steps": 3})
    assert (second.seed, second.model, second.guidance, second.engine) == (1, "tiny-sd", "sds", "torch")
    assert third.settings == {"steps": 9} and third.engine == "auto"


def test_the_best_are_kept(made: list[Asset], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["batch", "a red cube", "--seeds", "3", "--keep-best", "1"]
    main(command)
    there = [(asset.folder / folders.SPLATS).exists() for asset in made]
    assert there == [False, False, True] and "removed the files of 2" in capsys.readouterr().out
    main(command)
    assert len(made) == 3 and "1 made, 2 made and not kept" in capsys.readouterr().out


CASES = [
    ("a cat\na zebra\n", (), 'a.txt, line 2: "zebra" is not among the'),
    ("a cat\n", ("--steps", "0"), "a.txt, line 1: --steps 0: has to be"),
    ("prompt,steps\na cat,3\na cat,x\n", (), "a.csv, line 3: --set steps=x: has to be a whole number"),
    ("prompt,quality\na cat,best\n", (), "a.csv, line 2: quality best: has to be one of draft, normal, high"),
    ("prompt,guidance\na cat,sds\n", (), "a.csv, line 2: --guidance sds: is defined for diffusion models"),
    ("prompt,magic\na cat,3\n", (), "a.csv, line 2: --set magic=3: there is no setting magic"),
    ("prompt,seed\na cat,-1\n", (), "a.csv, line 2: seed -1: has to be a whole number"),
    ("prompt,device\na cat,cuda\n", (), "a.csv, line 2: device: is the same for all lines"),
    ("prompt,steps\n,3\n", (), "a.csv, line 2: the prompt is empty"),
    ("a cat\n", ("--retries", "-1"), "--retries -1: has to be at least 0"),
    ("a cat\n", ("--keep-best", "2"), "--keep-best 2: there are 1 seeds of each prompt"),
    ("a cat\n", ("--score", "scorer"), "--score scorer: is what --keep-best goes by"),
    ("a cat\n", ("--workers", "0"), "--workers 0: has to be at least 1"),
    (
        "prompt,backend\na cat,tiny-sd3\na cat,sd3\n",
        ("--keep-best", "1"),
        "a.csv, line 3: --keep-best: there are the scores truth and scorer, which know",
    ),
    ("", ("--keep-best", "1", "--any-words", "a zebra"), "--keep-best: 'zebra' is not a thing of this world"),
    ("", (), "a.txt: holds no prompts"),
]


@pytest.mark.parametrize(("content", "flags", "message"), CASES, ids=[message for *_, message in CASES])
def test_every_line_is_checked_before_anything_is_made(
    content: str,
    flags: tuple[str, ...],
    message: str,
    made: list[Asset],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rfgs.models.available.find_model", lambda backend, model, **_: model or backend.name)
    name = "a.csv" if content.startswith("prompt") else "a.txt"
    Path(name).write_text(content)
    files = [name] if content or not flags else []
    with pytest.raises(SystemExit) as exit_:
        main(["batch", *files, *flags])
    assert exit_.value.code == 2 and message in capsys.readouterr().err
    assert not made and not Path("runs").exists()


def test_what_was_not_made_is_named_at_the_end(
    made: list[Asset], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(assets: Sequence[Asset], places: Any, **_: Any) -> Iterator[Ended]:
        yield Ended(assets[0], "no room; make some")
        finish(assets[1])
        yield Ended(assets[1])

    monkeypatch.setattr(local, "run", run)
    with pytest.raises(SystemExit) as exit_:
        main(["batch", "a cat", "a dog"])
    out, err = capsys.readouterr()
    assert exit_.value.code == 1 and "rfgs: not made: a cat, seed 0: no room; make some\n" in err
    assert "1 of 2 were not made; the same command tries them again" in out
    assert "no room; make some" in Path("runs/batch/index.html").read_text()


def test_a_first_ctrl_c_stops_all(
    made: list[Asset], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(assets: Sequence[Asset], places: Any, *, stop: local.Stop, **_: Any) -> Iterator[Ended]:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked and stop.events.get() is None
        yield Ended(assets[0], stopped=True)

    monkeypatch.setattr(local, "run", run)
    with pytest.raises(SystemExit) as exit_:
        main(["batch", "a cat", "a dog"])
    out = capsys.readouterr().out
    assert (
        exit_.value.code == 130 and "stopping all, which write checkpoints; Ctrl-C again quits at once" in out
    )
    assert "2 are left; the same command goes on" in out


def test_one_batch_at_a_time_is_at_work_in_a_folder(
    made: list[Asset], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = (
        "import sys; from pathlib import Path; from rfgs.runs.holding import hold\n"
        "Path('runs/batch').mkdir(parents=True); hold(Path('runs/batch')); print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(SystemExit):
            main(["batch", "a cat"])
        assert "is at work in it; wait for its end" in capsys.readouterr().err and not made
    finally:
        process.kill()
        process.wait()


SHORT = (
    "--quality", "draft", "--steps", "10", "--splats", "60", "--views-per-step", "1", "--resolution", "32", "--device", "cpu",
    "--engine", "torch",
)  # fmt: skip


def dying(text: str) -> None:
    """A worker, in a fork, with a model that takes no time, which dies once in the midst of a cube."""
    from bench import forked
    from rfgs.runs import generate, recorder
    from rfgs.runs.batch import worker

    steps = generate.distill

    def killed(*args: Any, **more: Any) -> Iterator[Any]:
        for step in steps(*args, **more):
            yield step
            if step.index == 5 and not more["resume"]:
                os.kill(os.getpid(), 9)

    recorder.write_turntable = lambda splats, path, **_: path.touch()  # type: ignore[assignment]
    generate.load_prior = lambda *_, **__: forked.grey()
    if "cube" in text:
        generate.distill = killed
    worker.fork(text)


@pytest.mark.skipif(not forks.ABLE, reason="processes are forked on Linux only")
def test_two_are_made_by_processes_of_their_own_and_are_those_of_generate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rfgs.runs import generate, recorder

    monkeypatch.chdir(Path(__file__).parents[2])
    from bench import forked

    monkeypatch.setattr(local, "fork", dying)
    monkeypatch.setattr("rfgs.models.threads.usable", lambda: 2)
    main(["batch", "a red cube", "a blue ball", *SHORT, "--output", str(tmp_path / "b")])
    out = capsys.readouterr().out
    assert "killed by signal 9" in out and "2/2 a red cube, seed 0" in out
    monkeypatch.setattr(generate, "load_prior", lambda *_, **__: forked.grey())
    monkeypatch.setattr(recorder, "write_turntable", lambda splats, path, **_: path.touch())
    main(["generate", "a red cube", *SHORT, "--no-viewer", "--output", str(tmp_path / "one")])
    for name in ("splats.ply", "turntable.png", "previews/step-000008.png"):
        assert (tmp_path / "b" / "a-red-cube-0" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert folders.read_record(tmp_path / "b" / "a-red-cube-0")["resumed_after_steps"] == [5]
