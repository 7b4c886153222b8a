"""A run's folder: how it is named, claimed for a new run, and read again. `rfgs.runs.recorder` fills it.

run.json             what was asked for, with what versions, how long it took, what was changed on the way
checkpoint.pt        everything that the next step depends on
previews/            strips of views from the early steps
splats.ply           the asset
turntable.mp4, .png  the asset from all around
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.runs.job import Job

RECORD, CHECKPOINT, PREVIEWS, SNAPSHOTS = "run.json", "checkpoint.pt", "previews", "snapshots"
SPLATS, VIDEO, STRIP = "splats.ply", "turntable.mp4", "turntable.png"


def claim_folder(
    prompt: str, seed: int, output: Path | None = None, *, overwrite: bool = False, resumable: bool = True
) -> Path:
    """Creates the folder of a new run, and makes sure that no other run is in it.

    Args:
        output: the folder; None takes runs/<prompt>-<seed>, with a number behind it if that is taken.
        resumable: whether the command has a --resume, for its error messages.
        overwrite: remove an earlier run's files from the folder. Files that no run writes are left alone.

    Raises:
        UserError: the folder is not empty (and may not be overwritten), is a file, or cannot be written.
    """
    if output is None:
        folder = Path("runs") / f"{slug(prompt)}-{seed}"
        number = 2
        while not overwrite and _in_use(folder):
            folder = folder.with_name(f"{slug(prompt)}-{seed}-{number}")
            number += 1
    else:
        folder = output
        if folder.suffix.lower() in (".ply", ".splat", ".glb", ".mp4"):
            raise UserError(
                f"--output {folder}: has to be a folder, not a file; try --output {folder.with_suffix('')}"
            )
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--output {folder}: is a file; choose a folder")
        if not overwrite and _in_use(folder):
            holds = "already holds a run" if (folder / RECORD).exists() else "is not empty"
            remedy = "replace what a run writes with --overwrite"
            remedy = (
                f"{remedy}, or go on with an unfinished run with --resume" if resumable else f"or {remedy}"
            )
            raise UserError(f"--output {folder}: {holds}; choose another folder, {remedy}")
        folder.mkdir(parents=True, exist_ok=True)
        for path in _files_of_a_run(folder):
            path.unlink(missing_ok=True)
        # The one sure test of whether files can be written is to write one: permissions do not bind everybody.
        probe = folder / f".{RECORD}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"--output {folder}: cannot be written ({reason}); choose another folder with --output"
        ) from error
    return folder


def slug(prompt: str, longest: int = 48) -> str:
    """A folder's name made of the prompt's words: "A red cube!" is "a-red-cube". Cut at a word where it is long."""
    words = re.findall(r"[^\W_]+", prompt.lower())
    name = ""
    for word in words:
        if name and len(name) + 1 + len(word) > longest:
            break
        name = f"{name}-{word}" if name else word[:longest]
    return name or "run"


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in `folder`.

    Raises:
        UserError: there is no run in it.
    """
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{folder}: holds no run ({RECORD} is missing or damaged); give the folder of one, such as those in runs/"
        ) from error


def job_to_resume(folder: Path, *, steps: int | None = None) -> Job:
    """The job of an unfinished run, as its record has it; `steps` makes it longer or shorter.

    Raises:
        UserError: no run, no checkpoint, or nothing left to do.
    """
    record = read_record(folder)
    if not (folder / CHECKPOINT).exists():
        raise UserError(
            f"--resume {folder}: has no {CHECKPOINT} to go on from; start the run again with --overwrite"
        )
    job = _job_of(record["job"])
    total = record["config"]["steps"]
    if steps is not None:
        job, total = replace(job, settings={**job.settings, "steps": steps}), steps
    done = record["steps_done"]
    if done >= total:
        raise UserError(
            f"--resume {folder}: did its {done} steps already; make it longer with, for example, --steps {2 * done}"
        )
    return job


def _job_of(noted: dict[str, Any]) -> Job:
    """A record's job; what is no longer a field of it, an older version noted of the settings, given or not."""
    known = {field.name for field in fields(Job)}
    job = Job(**{name: value for name, value in noted.items() if name in known})
    if "settings" in noted:
        return job
    older = {name: value for name, value in noted.items() if name not in known and value not in (None, "")}
    return replace(job, settings=older)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The last checkpoint: `config` (settings by name), `state` (of the loop), and what the record counts on.

    Raises:
        UserError: it is damaged or from another version.
    """
    import torch

    try:
        # Only tensors and plain containers are read, so that a checkpoint from elsewhere cannot run code.
        return torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"--resume {folder}: {CHECKPOINT} cannot be read; start the run again with --overwrite"
        ) from error


def _in_use(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _files_of_a_run(folder: Path) -> list[Path]:
    return [folder / name for name in (RECORD, CHECKPOINT, SPLATS, VIDEO, STRIP)] + [
        *(folder / PREVIEWS).glob("step-*.png"),
        *(folder / SNAPSHOTS).glob("step-*.ply"),
    ]
