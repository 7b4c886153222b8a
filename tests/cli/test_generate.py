"""`rfgs generate` from its flags to what it asks of the library, and back."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import time
import weakref
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rfgs.cli.generate import Generate
from rfgs.cli.main import main
from rfgs.runs.generate import Result
from rfgs.runs.job import BIG_QUALITIES, QUALITIES, Job
from rfgs.splats import ball


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Job, Path, dict[str, Any]]]:
    """The calls of the library's `generate`, which here makes nothing but run.json; the working folder is empty."""
    import torch

    calls: list[tuple[Job, Path, dict[str, Any]]] = []

    def generate(job: Job, folder: Path, **options: Any) -> Result:
        calls.append((job, folder, options))
        record = {
            "job": vars(job),
            "config": {"steps": job.settings.get("steps", 1)},
            "splats": 1,
            "steps_done": job.settings.get("steps", 1),
            "seconds": {"startup": 1.0},
            "peak_memory": None,
            "peak_gpu_memory": None,
        }
        (folder / "run.json").write_text(json.dumps(record))
        return Result(ball(1, 1.0, generator=torch.Generator()), [folder / "splats.ply"], record)

    monkeypatch.setattr("rfgs.runs.generate.generate", generate)
    monkeypatch.setattr("rfgs.models.available.find_model", lambda backend, model, **_: model or backend.name)
    monkeypatch.setattr("rfgs.cli.checks.check_device", lambda choice, **_: "cpu")
    monkeypatch.chdir(tmp_path)
    return calls


def test_the_plain_command(asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", " a  red cube "])
    ((job, folder, options),) = asked
    assert (
        job == Job("a red cube", guidance="rfds")
        and folder == Path("runs/a-red-cube-0")
        and options["resume"] is False
    )
    out, err = capsys.readouterr()
    assert "open it:  rfgs view runs/a-red-cube-0\n" in out
    assert 'making "a red cube" with tiny-sd3 on the cpu; writing to runs/a-red-cube-0\n' in err


@pytest.mark.parametrize("backend", ["tiny-sd3", "sd3"])
@pytest.mark.parametrize("name", QUALITIES)
def test_flags_win_over_the_preset(name: str, backend: str, asked: list) -> None:
    main(["generate", "cube", "--backend", backend, "--quality", name])
    main(["generate", "cube", "--backend", backend, "--steps", "7", "--quality", name])
    (first, _, _), (second, _, _) = asked
    assert first.preset() == (QUALITIES if backend == "tiny-sd3" else BIG_QUALITIES)[name] == second.preset()
    assert first.settings == {} and second.settings == {"steps": 7}


def test_every_flag_arrives(asked: list) -> None:
    flags = "--model /m --guidance rfds --steps 5 --views-per-step 3 --splats 9 --resolution 96 --guidance-scale 12.5"
    main(["generate", "cube", *flags.split(), "--seed", "4", "--negative-prompt", "bad", "--output", "there"])
    ((job, folder, _),) = asked
    assert folder == Path("there")
    assert job == Job(
        "cube",
        model="/m",
        guidance="rfds",
        settings={
            "steps": 5,
            "views_per_step": 3,
            "splats": 9,
            "resolution": 96,
            "guidance_scale": 12.5,
            "negative_prompt": "bad",
        },
        seed=4,
    )
    # What is typed is given, also where it is what the flag would be without.
    main(["generate", "cube", "--model", "/m", "--densify=none", "--no-perp-neg", "--negative-prompt", ""])
    assert asked[1][0].settings == {"densify": "none", "perp_neg": False, "negative_prompt": ""}


def test_details_of_the_guidance_arrive(asked: list) -> None:
    inner = {"inner_steps": 3, "inner_step_size": 0.5, "inner_optimizer": "adam", "renormalize_noise": True}
    sets = [f"--set={name}={value}" for name, value in inner.items()]
    main(["generate", "cube", *sets, "--smooth-views", "--perp-neg"])
    main("generate cube --guidance rfds-vsd --set lora_rank=8 --set noise_range=0.1,0.9".split())
    (first, _, _), (second, _, _) = asked
    assert first == Job("cube", settings={"smooth_views": True, "perp_neg": True, **inner})
    settings = {"lora_rank": 8, "noise_range": (0.1, 0.9)}
    assert second == Job("cube", guidance="rfds-vsd", settings=settings)


def test_densification_arrives(asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    main("generate cube --splats 50 --densify quantile --max-splats 80".split())
    ((job, _, _),) = asked
    settings = {"splats": 50, "densify": "quantile", "max_splats": 80}
    assert job == Job("cube", guidance="rfds", settings=settings)
    for flags, message in (
        ("--densify none --max-splats 80", "--max-splats: bounds what --densify adds"),
        (
            "--splats 90 --densify mcmc --max-splats 80",
            "--max-splats 80: is less than the 90 splats of the start",
        ),
    ):
        with pytest.raises(SystemExit):
            main(["generate", "cube", *flags.split()])
        assert message in capsys.readouterr().err


def test_ways_to_load_the_model_arrive(asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    main("generate cube --backend sd3 --t5 drop --dtype bfloat16 --compile".split())
    monkeypatch.setattr("rfgs.cli.checks.check_device", lambda choice, **_: "cuda")
    main("generate cube --backend sd3 --offload --no-viewer".split())
    (first, _, _), (second, _, _) = asked
    assert (first.t5, first.dtype, first.compile, first.offload) == ("drop", "bfloat16", True, False)
    assert second.offload and second.device == "cuda"


def test_the_same_command_again_gets_a_folder_of_its_own(asked: list) -> None:
    main(["generate", "cube"])
    main(["generate", "cube"])
    main(["generate", "cube", "--overwrite"])
    assert [folder.name for _, folder, _ in asked] == ["cube-0", "cube-0-2", "cube-0"]


REMARK = 'tiny-sd3 knows a small world only, and not the words "antique", "foggy"\n'


def test_words_that_describe_are_remarked_on_once_before_the_run(
    asked: list, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["generate", "an antique cube", "--negative-prompt", "foggy, antique", "--output", "there"])
    err = capsys.readouterr().err
    assert err.count(REMARK) == 1 and err.index(REMARK) > err.index("making")
    main(["generate", "an antique horse", "--any-words"])
    assert 'not the words "antique", "horse"\n' in capsys.readouterr().err
    main(["generate", "cube"])
    assert "small world" not in capsys.readouterr().err
    Path("there/checkpoint.pt").touch()
    monkeypatch.setattr("rfgs.models.available.check_source", lambda source, **_: source)
    main(["generate", "--resume", "there", "--steps", "900"])
    assert capsys.readouterr().err.count(REMARK) == 1
    assert len(asked) == 4


def test_guidance_on_top_of_what_is_baked_in_is_remarked_on(
    asked: list, capsys: pytest.CaptureFixture[str]
) -> None:
    for scale, said in (("20", True), ("1", False)):
        main(["generate", "cube", "--backend", "flux-schnell", "--guidance-scale", scale])
        assert ("baked in: a scale of 20 comes on top" in capsys.readouterr().err) == said


def test_a_run_that_was_begun_with_any_words_goes_on(asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfgs.models.available.check_source", lambda source, **_: source)
    main(["generate", "a horse", "--any-words", "--output", "there"])
    Path("there/checkpoint.pt").touch()
    main(["generate", "--resume", "there", "--steps", "900"])
    assert asked[1][0].prompt == "a horse"


def test_resume_takes_the_job_from_the_folder(asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfgs.models.available.check_source", lambda source, **_: source)
    main(["generate", "cube", "--steps", "5", "--seed", "8", "--output", "there"])
    Path("there/checkpoint.pt").touch()
    main(["generate", "--resume", "there", "--steps", "9"])
    (first, _, _), (second, folder, options) = asked
    assert second.settings == {"steps": 9} and second.seed == 8 and second.prompt == first.prompt
    assert folder == Path("there") and options["resume"] is True


def test_a_run_that_goes_on_is_checked_for_memory_as_a_new_one(
    asked: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rfgs.models.available.check_source", lambda source, **_: source)
    monkeypatch.setattr("rfgs.priors.fit.distillation_dtype", lambda device: None)
    monkeypatch.setattr("rfgs.models.ram.available", lambda: 200 << 30)
    main(["generate", "cube", "--backend", "sd3", "--output", "there"])
    Path("there/checkpoint.pt").touch()
    monkeypatch.setattr("rfgs.models.ram.available", lambda: 8 << 30)
    with pytest.raises(SystemExit) as raised:
        main(["generate", "--resume", "there"])
    assert raised.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"rfgs: --resume there: .*: wants about \d+ GiB of this machine's memory, and 8 are free; "
        "end what else uses it, or go on with it on a larger machine",
        said,
    )
    assert len(asked) == 1


def test_a_run_that_never_began_leaves_no_folder(asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(job: Job, folder: Path, **options: Any) -> Result:
        raise RuntimeError("no model")

    monkeypatch.setattr("rfgs.runs.generate.generate", broken)
    with pytest.raises(RuntimeError, match="no model"):
        main(["generate", "cube"])
    assert list(Path("runs").iterdir()) == []


def test_ctrl_c_stops_the_loop_but_quits_while_the_model_is_loaded(
    asked: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = import_module("rfgs.runs.generate").generate

    def generate(job: Job, folder: Path, **options: Any) -> Result:
        if job.settings:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        options["on_start"](None, SimpleNamespace())
        assert not options["stop"]()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert options["stop"]()
        return done(job, folder, **options)

    monkeypatch.setattr("rfgs.runs.generate.generate", generate)
    with pytest.raises(SystemExit) as exit_:
        main(["generate", "cube", "--steps", "1"])
    assert exit_.value.code == 130 and asked == [] and list(Path("runs").iterdir()) == []
    main(["generate", "cube"])
    err = capsys.readouterr().err
    assert len(asked) == 1 and "stopping after this step" in err


def test_garbage_is_looked_for_again_once_all_is_loaded(asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoder:
        """Held by a cycle, as accelerate's hooks hold what they offload."""

        def __init__(self) -> None:
            self.hook = self

    states: list[object] = []

    def generate(job: Job, folder: Path, **options: Any) -> Result:
        released, frozen = weakref.ref(Encoder()), gc.get_freeze_count()
        states.append((gc.isenabled(), released() is None))
        options["on_start"](None, None)
        states.append((gc.isenabled(), released() is None))
        options["on_step"](SimpleNamespace(index=1, total=1, splats=[], loss=0.0))
        states.append((gc.isenabled(), gc.get_freeze_count() > frozen))
        raise RuntimeError("broken")

    monkeypatch.setattr("rfgs.runs.generate.generate", generate)
    for offload in (False, True):
        states.clear()
        with pytest.raises(RuntimeError, match="broken"):
            Generate(viewer=False)._generate(Job("cube", offload=offload), Path("run"), "")
        assert states == [(False, False), (False, offload), (True, True)]
    monkeypatch.setattr("rfgs.runs.generate.generate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["generate", "cube", "--no-viewer"])
    assert gc.isenabled()


def test_a_viewer_follows_the_run(asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "cube", "--viewer", "--port", "0"])
    ((_, _, options),) = asked
    assert "viewer: http://" in capsys.readouterr().err
    assert options["stop"]() is True, (
        "the page was closed with the run, and a closed page asks for nothing more"
    )
