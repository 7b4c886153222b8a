"""`Recorder`: listens to the steps of a run and keeps the run's folder up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import torch

from rfgs.distill import DistillConfig, Step
from rfgs.distill.gradients import overflow
from rfgs.errors import Unwritten
from rfgs.export import export
from rfgs.export.results import Results
from rfgs.export.turntable import write_strip, write_turntable
from rfgs.export.writing import made
from rfgs.guidance import as_dict
from rfgs.models import machine
from rfgs.runs.checkpoints import save_checkpoint
from rfgs.runs.folders import (
    CHECKPOINT,
    CHECKPOINT_BEFORE,
    PREVIEWS,
    RECORD,
    SNAPSHOTS,
    SPLATS,
    STRIP,
    VIDEO,
    write_record,
)
from rfgs.runs.job import Job
from rfgs.splats import Splats

P = ParamSpec("P")
R = TypeVar("R")

PREVIEW_FRACTIONS = (0.06, 0.15, 0.3, 0.5, 0.75)
"""When previews are taken, as parts of the whole run: the first early enough to give up on a bad start."""
CHECKPOINT_FRACTION = 0.1
CHECKPOINT_SECONDS = 300.0
"""Checkpoints are written at every tenth of a run, and once this time has gone by since the last one."""

STEP_PARTS = ("prior", "encode", "render", "backward", "optimizer")
"""The parts of a step that the loop measures itself."""


class Recorder:
    """Listens to one run.

    Args:
        folder: exists, and is this run's alone.
        job: goes into the record.
        config: of the loop. It may be changed while the loop runs; the record says what was changed when.
        began: `time.perf_counter()` at the start of the program.
        checkpoint: what `rfgs.runs.checkpoints.load_checkpoint` gave, for a run that goes on.
        say: told in a line, now and then, that gradients overflow, and once that something cannot be written; the run goes on.
    """

    def __init__(
        self,
        folder: Path,
        job: Job,
        config: DistillConfig,
        *,
        began: float,
        checkpoint: dict[str, Any] | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.folder, self.job, self.config = folder, job, config
        self._say, self._said = say, False
        self.record: dict[str, Any] = {
            "state": "running",
            "job": asdict(job),
            "config": as_dict(config),
            "steps_done": 0,
            "versions": machine.versions(),
            "git_commit": machine.git_commit(),
            "cpu": machine.cpu_model(),
            "gpu": torch.cuda.get_device_name() if job.device == "cuda" else None,
            "started": _now(),
            "seconds": dict.fromkeys(("startup", *STEP_PARTS, "files", "viewer", "rest"), 0.0),
            "evaluations": {"forward": 0, "backward": 0},
            "skipped": 0,
            "progress": [],
            "changes": [],
            "resumed_after_steps": [],
        }
        if checkpoint is not None:
            self.record.update(checkpoint["record"])
            self.record["resumed_after_steps"].append(self.record["steps_done"])
        # A tensor, and added up as one: reading it in each step would wait for the GPU.
        self._skipped = torch.tensor(self.record["skipped"])
        self._say, self._said = say, self.record["skipped"]
        self._settings = as_dict(config)
        self._began, self._counted = began, 0.0
        self._saved = time.monotonic()
        self._count("startup", time.perf_counter() - began)
        self.write_record()

    def keep(self, step: Step) -> Path | None:
        """Takes note of a step; writes a checkpoint and a preview where they are due, and returns the preview."""
        for part in STEP_PARTS:
            self._count(part, step.seconds.get(part, 0.0))
        for way, count in step.evaluations.items():
            self.record["evaluations"][way] += count
        self._skipped = self._skipped.to(step.skipped) + step.skipped
        self.record["steps_done"] = step.index
        self._note_changes(step.index)
        preview = None
        # First the preview: who goes on after a checkpoint does not come by this step again.
        if step.index in {max(1, round(fraction * step.total)) for fraction in PREVIEW_FRACTIONS}:
            self._note_progress(step)
            preview = self.timed("files", self.write_preview, step)
        due = step.index % max(1, round(CHECKPOINT_FRACTION * step.total)) == 0
        if due or time.monotonic() - self._saved >= CHECKPOINT_SECONDS:
            self.timed("files", self.write_checkpoint, step)
        return preview

    def timed(self, part: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls `function` and counts the time it takes as `part` of the run's."""
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self._count(part, time.perf_counter() - start)

    def write_preview(self, step: Step) -> Path | None:
        """A strip of views all around, as the splats are now, and the splats themselves; returns the strip, if it is there."""
        name, strip = f"step-{step.index:06d}", None
        with self._bearing():
            export(step.splats, made(self.folder / SNAPSHOTS) / f"{name}.ply", comments=self.job.comments)
        with self._bearing():
            path = made(self.folder / PREVIEWS) / f"{name}.png"
            write_strip(step.splats, path, views=6, size=128)
            strip = path
        return strip

    def write_checkpoint(self, step: Step) -> None:
        """Everything the next step depends on; a crash while writing, or a full disk, leaves the checkpoint before it."""
        self._settle()
        self._saved = time.monotonic()  # One that fails is not tried at each step.
        counted = (
            "steps_done",
            "seconds",
            "evaluations",
            "skipped",
            "progress",
            "changes",
            "resumed_after_steps",
            "started",
        )
        content = {
            "config": as_dict(self.config),
            "state": step.state(),
            "record": {name: self.record[name] for name in counted},
        }
        with self._bearing():
            save_checkpoint(self.folder, content)
        self.write_record()

    def finish(self, splats: Splats, state: Literal["finished", "stopped"]) -> list[Path]:
        """Writes the asset and its turntable; returns what was written, the asset first.

        What the folder does not take goes into the system's temporary folder, and where that is gets said.

        Raises:
            Unwritten: the asset, there neither.
        """
        results = self.timed("files", self._write_asset, splats)
        elsewhere = results.line()
        if SPLATS in results.lost:
            begun = any((self.folder / name).exists() for name in (CHECKPOINT, CHECKPOINT_BEFORE))
            remedy = f"finish it with rfgs generate --resume {self.folder}" if begun else "start it again"
            raise Unwritten(self.folder / SPLATS, results.problem, f"free some space, and {remedy}")
        if elsewhere:
            self._say(elsewhere)
        self._settle()
        self.record.update(
            state=state,
            finished=_now(),
            splats=len(splats),
            peak_memory=machine.peak_memory(),
            peak_gpu_memory=torch.cuda.max_memory_allocated() if self.job.device == "cuda" else None,
        )
        self.write_record()
        return [*results.paths, *[path for path in [self.folder / RECORD] if path.exists()]]

    def fail(self, error: BaseException) -> None:
        """Notes what ended the run, which then has no asset."""
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self.record.update(state=state, finished=_now(), error=f"{type(error).__name__}: {error}")
        self.write_record()

    def write_record(self) -> None:
        """Brings run.json up to date."""
        with self._bearing():
            write_record(self.folder, self.record)

    @contextmanager
    def _bearing(self) -> Iterator[None]:
        """Within it, what cannot be written is said the first time, and ends nothing: the disk may have room again later."""
        try:
            yield
        except Unwritten as error:
            if not self._said:
                self._said = True
                self._say(
                    f"{error.path} cannot be written ({error.reason}); the run goes on, and tries again later"
                )

    def _write_asset(self, splats: Splats) -> Results:
        splats, results = splats.detach(), Results(self.folder)
        results.write(SPLATS, lambda path: export(splats, path, comments=self.job.comments))
        # Less than `rfgs export` makes of it, since on a CPU that takes longer than many steps.
        turn = partial(write_turntable, splats, frames=60, fps=15, size=384, supersampling=1)
        results.write(VIDEO, turn)
        results.write(STRIP, lambda path: write_strip(splats, path))
        return results

    def _note_progress(self, step: Step) -> None:
        """What the way to this step's snapshot cost, for curves of convergence: network evaluations and seconds of steps."""
        seconds = sum(self.record["seconds"][part] for part in STEP_PARTS)
        self.record["progress"].append({"step": step.index, "seconds": seconds, **self.record["evaluations"]})

    def _note_changes(self, after: int) -> None:
        settings = as_dict(self.config)
        # Another guidance brings settings of its own along, which are at their defaults and no change.
        changed = [name for name in settings if settings[name] != self._settings.get(name, settings[name])]
        for name in changed:
            change = {"step": after + 1, "setting": name, "old": self._settings[name], "new": settings[name]}
            self.record["changes"].append(change)
        self._settings = settings

    def _count(self, part: str, seconds: float) -> None:
        self.record["seconds"][part] += seconds
        self._counted += seconds

    def _settle(self) -> None:
        """Reads what was skipped, and counts as "rest" the time since the last call that no part accounts for."""
        self.record["skipped"] = int(self._skipped)
        if self.record["skipped"] > 2 * self._said:  # A few lines in a run, however many there are.
            self._said = self.record["skipped"]
            self._say(overflow(self._said, self.record.get("dtype")))
        now = time.perf_counter()
        self.record["seconds"]["rest"] += max(0.0, now - self._began - self._counted)
        self._began, self._counted = now, 0.0


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
