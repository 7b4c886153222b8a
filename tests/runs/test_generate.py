"""From a job to a run's folder, with a loop that takes microseconds in place of the real one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from rfgs.distill.recipes import tiny_recipe
from rfgs.errors import Unwritten, UserError
from rfgs.export import comments_of, export, read_ply
from rfgs.export.turntable import write_strip
from rfgs.export.writing import atomic
from rfgs.guidance import value_of
from rfgs.models.memory import Load, beside_the_encoder
from rfgs.priors.fit import distillation_dtype
from rfgs.runs import generate as module
from rfgs.runs import recorder
from rfgs.runs.folders import job_to_resume, note_job
from rfgs.runs.generate import generate
from rfgs.runs.job import Job
from rfgs.runs.recorder import Recorder
from rfgs.splats import Splats, ball

JOB = Job("a red cube", settings={"steps": 20, "views_per_step": 2, "splats": 30}, seed=3)


def job_with(job: Job = JOB, **settings: Any) -> Job:
    """A job with other settings."""
    return replace(job, settings={**job.settings, **settings})


PREVIEWS = [f"step-{index:06d}.png" for index in (1, 3, 6, 10, 15)]


@dataclass(frozen=True)
class FakeStep:
    index: int
    total: int
    splats: Splats
    generator: torch.Generator
    seconds: dict[str, float]
    evaluations: dict[str, int]
    loss: torch.Tensor = torch.zeros(())
    skipped: torch.Tensor = torch.ones((), dtype=torch.int64)

    def state(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "splats": {name: tensor.clone() for name, tensor in self.splats.parameters().items()},
            "optimizer": {},
            "generator": self.generator.get_state(),
        }


def fake_distill(
    prompt: str,
    prior: object,
    splats: Splats,
    config: Any,
    *,
    generator: torch.Generator,
    resume: dict[str, Any] | None = None,
    share: Any = None,
) -> Iterator[FakeStep]:
    """A random walk, whose every step depends on all before it."""
    first = 1
    if resume is not None:
        splats = Splats.from_parameters(resume["splats"])
        generator.set_state(resume["generator"])
        first = resume["index"] + 1
    for index in range(first, config.steps + 1):
        splats.means += 1e-3 * config.guidance_scale * torch.randn(splats.means.shape, generator=generator)
        yield FakeStep(
            index,
            config.steps,
            splats,
            generator,
            {"prior": 2.0, "render": 1.0},
            {"forward": 6, "backward": 0},
        )


def fake_turntable(splats: Splats, path: Path, **options: Any) -> None:
    with atomic(path) as temporary:
        temporary.touch()


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module,
        "load_prior",
        lambda model, kind, **options: SimpleNamespace(
            kind=kind,
            dtype=options["dtype"] or torch.float32,
            image_size=32,
            name=model,
            vocabulary=frozenset({"red", "cube", "a"}),
        ),
    )
    monkeypatch.setattr(module, "distill", fake_distill)

    # A video takes a second, and pictures are most of what is left; that they can be written is for the exporters' tests.
    monkeypatch.setattr("rfgs.runs.recorder.write_turntable", fake_turntable)
    monkeypatch.setattr(
        "rfgs.runs.recorder.write_strip",
        lambda splats, path, *, views=8, size=256: write_strip(splats, path, views=views, size=size // 8),
    )


def stop_after(index: int) -> dict[str, Callable]:
    """Arguments of `generate` that end the loop after a step."""
    seen: list[int] = []
    return {"on_step": lambda step: seen.append(step.index), "stop": lambda: seen[-1] >= index}


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    previews: list[Path] = []
    configs: list[Any] = []
    said: list[str] = []
    result = generate(
        JOB,
        tmp_path,
        say=said.append,
        on_preview=previews.append,
        on_start=lambda config, prior: configs.append((config, prior)),
    )
    assert [path.name for path in result.paths] == [
        "splats.ply",
        "turntable.mp4",
        "turntable.png",
        "run.json",
    ]
    assert all(path.exists() for path in result.paths)
    torch.testing.assert_close(read_ply(result.paths[0]).means, result.splats.means, atol=1e-6, rtol=1e-6)

    assert [path.name for path in previews] == PREVIEWS
    snapshots = [path.name for path in sorted((tmp_path / "snapshots").iterdir())]
    assert snapshots == [name.replace(".png", ".ply") for name in PREVIEWS]
    first, last = (read_ply(tmp_path / "snapshots" / name).means for name in (snapshots[0], snapshots[-1]))
    assert (last - result.splats.means).norm() < (first - result.splats.means).norm()
    with Image.open(previews[0]) as picture:
        assert picture.size == (6 * 16, 16)  # An eighth of 128; see `fakes`.

    ((config, prior),) = configs
    assert (config.steps, config.views_per_step, config.resolution, config.guidance) == (
        20,
        2,
        32,
        "rfds-rev",
    )
    assert prior.name == "tiny-sd3"

    record = record_of(tmp_path)
    assert record == json.loads(json.dumps(result.record))
    assert record["state"] == "finished" and record["steps_done"] == 20 and record["splats"] == 30
    assert record["job"]["prompt"] == "a red cube" and record["job"]["seed"] == 3
    assert record["config"]["resolution"] == 32
    assert record["versions"]["torch"] == torch.__version__
    assert record["seconds"]["prior"] == 40 and record["seconds"]["render"] == 20
    assert record["peak_memory"] > 2**20
    assert record["evaluations"] == {"forward": 120, "backward": 0}
    assert record["skipped"] == 20
    # Told twice as seldom each time.
    assert [line.split()[0] for line in said if "not finite" in line] == ["2", "6", "14"]
    assert record["progress"] == [
        {"step": step, "seconds": 3.0 * step, "forward": 6 * step, "backward": 0}
        for step in (1, 3, 6, 10, 15)
    ]


def test_what_a_run_begins_with_is_told_before_its_model_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    load = module.load_prior
    monkeypatch.setattr(
        module, "load_prior", lambda *args, **options: (told.append("model"), load(*args, **options))[1]
    )

    def noted(splats: Splats) -> None:
        told.append(splats.means.clone())

    generate(JOB, tmp_path, say=str, on_first=noted, **stop_after(6))
    note_job(tmp_path, JOB)
    generate(JOB, tmp_path, say=str, on_first=noted, resume=True)
    (ball_there, _, stopped_at, _) = told
    assert [one == "model" for one in (told[1], told[3])] == [True, True]
    assert torch.equal(
        ball_there, ball(30, 0.7, generator=torch.Generator().manual_seed(3), opacity=0.1).means
    )
    assert stopped_at.shape == ball_there.shape and not torch.equal(stopped_at, ball_there)


def given_to_the_loop(job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Splats:
    """The splats that a run starts from."""
    starts: list[Splats] = []

    def watching(
        prompt: str, prior: object, splats: Splats, *args: Any, **options: Any
    ) -> Iterator[FakeStep]:
        starts.append(splats.clone())
        return fake_distill(prompt, prior, splats, *args, **options)

    monkeypatch.setattr(module, "distill", watching)
    generate(job, folder)
    return starts[0]


def test_a_run_starts_from_a_ball_that_fills_most_of_the_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.7 world units: docs/results.md#a-smaller-start-and-growth."""
    splats = given_to_the_loop(job_with(steps=1, splats=3000), tmp_path, monkeypatch)
    distances = splats.means.norm(dim=-1)
    assert len(splats) == 3000 and 0.695 < distances.max() <= 0.7
    # Even over the ball: half of them are outside half of its volume.
    assert distances.median().item() == pytest.approx(0.7 * 0.5 ** (1 / 3), abs=0.01)
    torch.testing.assert_close(splats.opacities, torch.full((3000,), 0.1))


def test_a_run_starts_from_the_ball_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(steps=1, splats=3000, start_radius=0.4, start_opacity=0.3)
    splats = given_to_the_loop(job, tmp_path, monkeypatch)
    assert 0.395 < splats.means.norm(dim=-1).max() <= 0.4
    torch.testing.assert_close(splats.opacities, torch.full((3000,), 0.3))


def test_haze_is_left_out_of_the_asset_and_not_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fading(*args: Any, **options: Any) -> Iterator[FakeStep]:
        for step in fake_distill(*args, **options):
            # Just above, just below, and far below what shows.
            step.splats.logit_opacities[:3] = torch.tensor([0.051, 0.049, 1e-4]).logit()
            yield step

    monkeypatch.setattr(module, "distill", fading)
    result = generate(job_with(steps=2), tmp_path)
    assert len(result.splats) == result.record["splats"] == len(read_ply(tmp_path / "splats.ply")) == 28
    assert result.splats.opacities.min().item() == pytest.approx(0.051)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]
    assert len(state["splats"]["means"]) == 30


def test_details_of_the_guidance_reach_the_loop(tmp_path: Path) -> None:
    configs: list[Any] = []
    job = job_with(steps=1, inner_steps=3, inner_optimizer="adam", renormalize_noise=True, perp_neg=True)
    generate(job, tmp_path, on_start=lambda config, prior: configs.append(config))
    (tmp_path / "lora").mkdir()
    job = job_with(replace(JOB, guidance="rfds-vsd"), steps=1, lora_rank=8, lr_lora=0.5)
    generate(job, tmp_path / "lora", on_start=lambda config, prior: configs.append(config))
    first, second = configs
    assert first.own == {"inner_steps": 3, "inner_optimizer": "adam", "renormalize_noise": True}
    assert first.perp_neg and not first.smooth_views and value_of(first, "inner_step_size") == 1.0
    assert second.guidance == "rfds-vsd" and second.own == {"lora_rank": 8, "lr_lora": 0.5}
    assert value_of(second, "lora_steps") == 1
    # The record has all that was in effect, and apart from it what was given.
    record = record_of(tmp_path / "lora")
    assert record["job"]["settings"] == job.settings and record["config"]["lora_steps"] == 1


def test_how_the_model_was_loaded_is_in_the_record(tmp_path: Path) -> None:
    generate(replace(job_with(steps=1), dtype="bfloat16", t5="drop", offload=True, compile=True), tmp_path)
    record = record_of(tmp_path)
    how = {"t5": "drop", "dtype": "bfloat16", "offload": True, "compile": True}
    assert how.items() <= record["job"].items() and record["dtype"] == "bfloat16"
    generate(job_with(steps=1), tmp_path)
    chosen = str(distillation_dtype("cpu") or torch.float32).removeprefix("torch.")
    assert record_of(tmp_path)["job"]["dtype"] == "auto" and record_of(tmp_path)["dtype"] == chosen


def test_flags_that_were_given_reach_the_loop(tmp_path: Path) -> None:
    configs: list[Any] = []
    job = job_with(
        replace(JOB, guidance="rfds"), steps=1, resolution=64, guidance_scale=30.0, negative_prompt="blur"
    )
    generate(job, tmp_path, on_start=lambda config, prior: configs.append(config))
    (config,) = configs
    assert (config.resolution, config.guidance, config.guidance_scale, config.negative_prompt) == (
        64,
        "rfds",
        30,
        "blur",
    )


def test_the_seed_decides(tmp_path: Path) -> None:
    results = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        results.append(generate(replace(JOB, seed=seed), tmp_path / name).splats.means)
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


@pytest.mark.parametrize("index", [2, 10, 13])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(index: int, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    generate(JOB, whole)
    stopped = generate(JOB, parts, **stop_after(index))
    assert stopped.record["state"] == "stopped" and stopped.record["steps_done"] == index
    assert all(path.exists() for path in stopped.paths)
    assert (parts / "splats.ply").read_bytes() != (whole / "splats.ply").read_bytes()

    result = generate(job_to_resume(parts), parts, resume=True)
    assert (parts / "splats.ply").read_bytes() == (whole / "splats.ply").read_bytes()
    assert result.record["state"] == "finished" and result.record["resumed_after_steps"] == [index]
    assert result.record["seconds"]["prior"] == 40
    assert result.record["evaluations"]["forward"] == 120
    assert result.record["skipped"] == 20
    assert [entry["step"] for entry in result.record["progress"]] == [1, 3, 6, 10, 15]
    assert sorted(path.name for path in (parts / "previews").iterdir()) == PREVIEWS


KILLED_IN = [
    ("Recorder", 1),
    ("write_preview", 1),
    ("write_preview", 3),
    ("write_checkpoint", 1),
    ("write_checkpoint", 4),
    ("_write_asset", 1),
    ("write_strip", 6),
    ("write_turntable", 1),
    ("finish", 1),
]


@pytest.mark.parametrize(("moment", "time"), KILLED_IN)
def test_a_run_that_was_killed_goes_on_as_if_it_had_not(
    moment: str, time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with SIGKILL, nothing is done after the moment: neither the record nor a checkpoint is written."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    generate(JOB, whole)
    note_job(parts, JOB)
    times = iter(range(1, 100))

    def killing(work: Callable) -> Callable:
        def called(*args: Any, **options: Any) -> Any:
            if next(times) >= time:
                raise SystemExit("killed")
            return work(*args, **options)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "fail", lambda self, error: None)
        for place in (module, recorder, Recorder):
            if hasattr(place, moment):
                patch.setattr(place, moment, killing(getattr(place, moment)))
        with pytest.raises(SystemExit):
            generate(JOB, parts)
    generate(job_to_resume(parts), parts, resume=True)
    for path in whole.rglob("*"):
        if path.is_file() and path.suffix not in (".json", ".pt"):
            assert (parts / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    ended, unbroken = record_of(parts), record_of(whole)
    assert ended["state"] == "finished"
    for name in ("config", "steps_done", "evaluations", "skipped", "splats"):
        assert ended[name] == unbroken[name]


class Disk:
    """A disk that takes nothing new in `folder` while it is full, but at the end of a file, when it is renamed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.full = folder, True
        replace_file = os.replace
        monkeypatch.setattr(tempfile, "tempdir", str(folder.parent))

        def replacing(source: Path, target: Path) -> None:
            if self.full and folder in Path(target).parents:
                raise OSError(errno.ENOSPC, "No space left on device")
            replace_file(source, target)

        monkeypatch.setattr(os, "replace", replacing)


def of_the_disk(said: list[str]) -> list[str]:
    """What was said, but for gradients, whose entries that are not finite each of these steps has."""
    return [line for line in said if "gradient" not in line]


def test_a_full_disk_costs_a_line_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    generate(JOB, whole)
    note_job(parts, JOB)
    disk, said = Disk(parts, monkeypatch), list[str]()
    result = generate(JOB, parts, say=said.append)
    first, last = of_the_disk(said)
    reason = "(no space left on device)"
    assert first == f"{parts / 'run.json'} cannot be written {reason}; the run goes on, and tries again later"
    (other,) = {path.parent for path in result.paths[:3]}
    assert (
        last == f"{parts} takes no more {reason}: splats.ply, turntable.mp4 and turntable.png are in {other}"
    )
    assert other.parent == tmp_path and result.paths[0] == other / "splats.ply"
    assert result.paths[0].read_bytes() == (whole / "splats.ply").read_bytes()
    assert [path.name for path in parts.rglob("*") if path.is_file() and path.name[0] != "."] == ["run.json"]
    assert not [path for path in parts.rglob(".*.*.*")]

    # With room again the files come into their folder.
    disk.full = False
    generate(job_to_resume(parts), parts, resume=True)
    assert (parts / "splats.ply").read_bytes() == (whole / "splats.ply").read_bytes()


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    disk, said, previews = Disk(tmp_path / "run", monkeypatch), list[str](), list[Path]()

    def empty(step: FakeStep) -> None:
        disk.full = step.index < 8

    result = generate(JOB, tmp_path / "run", say=said.append, on_step=empty, on_preview=previews.append)
    assert len(of_the_disk(said)) == 1 and {path.parent for path in result.paths} == {tmp_path / "run"}
    assert [path.name for path in previews] == PREVIEWS[3:]
    assert record_of(tmp_path / "run")["state"] == "finished"
    assert (tmp_path / "run" / "checkpoint-before.pt").exists()


def test_no_room_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    disk, said = Disk(folder, monkeypatch), list[str]()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def fill(step: FakeStep) -> None:
        disk.full = step.index > 10

    with pytest.raises(
        Unwritten, match=f"free some space, and finish it with rfgs generate --resume {folder}"
    ):
        generate(JOB, folder, say=said.append, on_step=fill)
    assert len(of_the_disk(said)) == 1 and not list(folder.glob("rfgs-*"))
    disk.full = False
    result = generate(job_to_resume(folder), folder, resume=True)
    assert result.record["resumed_after_steps"] == [10] and result.record["state"] == "finished"


def test_an_impatient_end_leaves_a_checkpoint_of_its_last_step(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop() -> bool:
        if seen[-1] == 7:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        generate(JOB, tmp_path, on_step=lambda step: seen.append(step.index), stop=stop)
    assert record_of(tmp_path)["state"] == "interrupted" and not (tmp_path / "splats.ply").exists()
    result = generate(job_to_resume(tmp_path), tmp_path, resume=True)
    assert result.record["resumed_after_steps"] == [7]


def test_a_checkpoint_is_also_due_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every five minutes; a step takes two here, and a tenth of the run a hundred."""
    clock = iter(range(0, 120 * 10_000, 120))
    now = [0.0]
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now[0])
    written: list[int] = []
    write = Recorder.write_checkpoint

    def noting(self: Recorder, step: Any) -> None:
        written.append(step.index)
        write(self, step)

    def walk(step: FakeStep) -> None:
        now[0] = float(next(clock)) + 120

    monkeypatch.setattr(Recorder, "write_checkpoint", noting)
    generate(job_with(steps=500), tmp_path, on_step=walk, **{"stop": lambda: now[0] >= 120 * 10})
    assert written == [3, 6, 9, 10]


def test_a_run_can_be_made_longer(tmp_path: Path) -> None:
    generate(JOB, tmp_path)
    result = generate(job_to_resume(tmp_path, steps=25), tmp_path, resume=True)
    assert result.record["steps_done"] == 25 and result.record["resumed_after_steps"] == [20]
    assert record_of(tmp_path)["job"]["settings"]["steps"] == 25


def test_settings_of_another_version_are_told_in_a_line(tmp_path: Path) -> None:
    generate(job_with(steps=1), tmp_path)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del checkpoint["summed"]
    # An older one, which had the settings of all guidances in one place.
    torch.save({**checkpoint, "config": {**checkpoint["config"], "lora_rank": 8}}, tmp_path / "checkpoint.pt")
    result = generate(job_to_resume(tmp_path, steps=2), tmp_path, resume=True)
    assert result.record["config"]["lora_rank"] == 8
    for name, value in (("magic", 1), ("steps", -1), ("lora_rank", "many")):
        torch.save(
            {**checkpoint, "config": {**checkpoint["config"], name: value}}, tmp_path / "checkpoint.pt"
        )
        with pytest.raises(UserError, match=f"checkpoint.pt has settings that this version .*{name}"):
            generate(job_to_resume(tmp_path, steps=3), tmp_path, resume=True)


def test_settings_changed_on_the_way_are_in_the_record_and_the_checkpoint(tmp_path: Path) -> None:
    configs: list[Any] = []

    def steer(step: FakeStep) -> None:
        if step.index == 4:
            configs[0].guidance_scale = 50.0

    steered = {
        "on_start": lambda config, prior: configs.append(config),
        "on_step": steer,
        "stop": lambda: False,
    }
    generate(job_with(steps=8), tmp_path, **steered)
    change = {
        "step": 5,
        "setting": "guidance_scale",
        "old": tiny_recipe(job_with().guidance).guidance_scale,
        "new": 50.0,
    }
    assert record_of(tmp_path)["changes"] == [change]
    result = generate(job_to_resume(tmp_path, steps=9), tmp_path, resume=True)
    assert result.record["config"]["guidance_scale"] == 50.0 and result.record["changes"] == [change]


def test_stopped_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "distill", lambda *args, **kwargs: iter(()))
    result = generate(JOB, tmp_path)
    assert result.record["state"] == "stopped" and len(read_ply(tmp_path / "splats.ply")) == 30


def test_what_ended_a_run_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(step: FakeStep) -> None:
        if step.index == 7:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        generate(JOB, tmp_path, on_step=breaks)
    record = record_of(tmp_path)
    assert (
        record["state"] == "failed" and record["error"] == "RuntimeError: a bug" and record["steps_done"] == 6
    )
    assert job_to_resume(tmp_path) == JOB


def test_memory_that_does_not_suffice(tmp_path: Path) -> None:
    def breaks(step: FakeStep) -> None:
        if step.index == 7:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError) as raised:
        generate(JOB, tmp_path, on_step=breaks)
    message = str(raised.value)
    for words in (
        "--views-per-step",
        "--resolution",
        "--splats",
        "--backend",
        f"checkpoint is in {tmp_path}",
    ):
        assert words in message


def test_memory_that_runs_out_half_way_loses_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*args: Any, **options: Any) -> Iterator[FakeStep]:
        for step in fake_distill(*args, **options):
            yield step
            if step.index == 7:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    generate(JOB, whole)
    with monkeypatch.context() as patch:
        patch.setattr(module, "distill", breaks)
        with pytest.raises(UserError, match=f"checkpoint is in {parts}"):
            generate(JOB, parts)
    result = generate(job_to_resume(parts), parts, resume=True)
    assert result.record["resumed_after_steps"] == [7]
    assert (parts / "splats.ply").read_bytes() == (whole / "splats.ply").read_bytes()


def test_the_times_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that ticks a second each time it is looked at, every tick between start and end is counted."""
    clock = iter(range(10_000))
    ticks: list[int] = []

    def tick() -> float:
        ticks.append(next(clock))
        return float(ticks[-1])

    monkeypatch.setattr("time.perf_counter", tick)

    def distill_without_times(*args: Any, **kwargs: Any) -> Iterator[FakeStep]:
        for step in fake_distill(*args, **kwargs):
            yield replace(step, seconds={})

    monkeypatch.setattr(module, "distill", distill_without_times)
    record = generate(JOB, tmp_path).record
    assert sum(record["seconds"].values()) == ticks[-1] - ticks[0]
    assert record["seconds"]["viewer"] == 20


def test_a_big_model_embeds_all_prompts_before_the_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And lets its text encoders go, so that the loop has their memory."""
    done: list[Any] = []
    prior = SimpleNamespace(
        kind="flow",
        image_size=32,
        vocabulary=None,
        embed=lambda prompts: done.append(list(prompts)),
        release_text=lambda: done.append("released"),
    )
    monkeypatch.setattr(module, "load_prior", lambda model, kind, **options: prior)
    monkeypatch.setattr(module, "fit_views", lambda prior, **asked: str(asked))
    hub_id = "stabilityai/stable-diffusion-3-medium-diffusers"
    settings = {"steps": 1, "splats": 20, "negative_prompt": "blurry", "views_per_step": 4}
    job = Job("a red cube", model=hub_id, guidance="rfds-vsd", settings=settings)
    generate(job, tmp_path)
    sides = ("front view", "left side view", "back view", "right side view", "overhead view")
    assert done == [["a red cube", "blurry", *[f"a red cube, {side}" for side in sides]], "released"]
    reserve, sliced = (
        beside_the_encoder("sd3", views=4, slice_views=one_by_one, size=32, load=Load(lora_rank=4))
        for one_by_one in (False, True)
    )
    asked = {"views": 4, "size": 32, "reserve": reserve, "reserve_sliced": sliced}
    assert record_of(tmp_path)["memory"] == str(asked)


def test_kernels_are_compiled_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiler(device: str, say: Any) -> None:
        raise UserError(f"no kernels for {device}")

    monkeypatch.setattr("rfgs.runs.generate.prepare", compiler)
    monkeypatch.setattr("rfgs.runs.generate.load_prior", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(UserError, match="no kernels for cuda"):
        generate(Job("a red cube", device="cuda"), tmp_path)


def test_a_run_starts_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read before the model, noted, and not needed once there is a checkpoint; the asset says where it comes from."""
    given, folder = ball(12, 0.5, generator=torch.Generator().manual_seed(3), opacity=0.9), tmp_path / "run"
    folder.mkdir()
    export(given, tmp_path / "given.ply")
    job = replace(JOB, start=str(tmp_path / "given.ply"))
    result = generate(job, folder, **stop_after(2))
    assert len(result.splats) == 12 and (result.splats.means - given.means).abs().max() < 0.5
    assert torch.allclose(result.splats.sh0, given.sh0, atol=1e-5)
    assert record_of(folder)["job"]["start"] == job.start
    assert comments_of(folder) == job.comments
    (tmp_path / "given.ply").unlink()
    assert len(generate(job, folder, resume=True).splats) == 12
    monkeypatch.setattr(module, "load_prior", lambda *_, **__: pytest.fail("the model was loaded first"))
    with pytest.raises(UserError, match="given.ply: no such file"):
        generate(job, tmp_path / "other")
