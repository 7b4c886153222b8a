"""A run's folder: how it is named, what is in it, and how it is read again. `rfgs.runs.claims` claims it, `recorder` fills it.

run.json             what was asked for, with what versions, how long it took, what was changed on the way
checkpoint.pt        everything that the next step depends on, and its checksum
checkpoint-before.pt the one before, in case that is damaged
previews/            strips of views from the early steps
splats.ply           the asset
turntable.mp4, .png  the asset from all around
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.runs.holding import hold
from rfgs.runs.job import Job, with_pairs
from rfgs.runs.plain import of_plain

CHECKPOINT_BEFORE = "checkpoint-before.pt"
RECORD, CHECKPOINT, PREVIEWS, SNAPSHOTS = "run.json", "checkpoint.pt", "previews", "snapshots"
PROBE = f".{RECORD}"
"""Written and removed again, to see whether files can be."""
PAUSED = ".paused"
"""There while a run with a page waits, and removed by who lets it go on."""
IMAGES = ("image.png", "strip.png", "curve.png", "noise.pt")
"""What `rfgs image`, `invert` and `edit` write beside a record."""
SPLATS, VIDEO, STRIP = "splats.ply", "turntable.mp4", "turntable.png"


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
        UserError: there is no run in it, or its record is damaged.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder}: holds no run ({RECORD} is missing or damaged); give the folder of one, such as those in runs/"
        ) from error
    if not isinstance(record, dict):
        raise UserError(f"{folder}: holds no run ({RECORD} is something else); give the folder of one")
    return record


def device_of(folder: Path) -> Literal["cpu", "cuda"]:
    """Where the run in `folder` was computed.

    Raises:
        UserError: there is no run in it.
    """
    job = read_record(folder).get("job")
    return "cpu" if isinstance(job, dict) and job.get("device") == "cpu" else "cuda"


def _check_record(folder: Path, record: dict[str, Any]) -> None:
    """That a record has what is needed to resume its run.

    Raises:
        UserError: it has not.
    """
    done, config = record.get("steps_done"), record.get("config", {})
    total = config.get("steps", 1) if isinstance(config, dict) else None
    if not all(isinstance(count, int) and 0 <= count < 2**31 for count in (done, total)):
        raise UserError(
            f"{folder}: its {RECORD} is damaged or another program's; start the run again with --overwrite"
        )


def job_to_resume(folder: Path, *, steps: int | None = None) -> Job:
    """The job of an unfinished run, as its record has it; `steps` makes it longer or shorter.

    A run that was killed before its first checkpoint, or after its last step, is unfinished too. The folder is held for this
    process from here on.

    Raises:
        UserError: no run, nothing left to do, or another process is at work in the folder.
    """
    read_record(folder)  # Nothing is written where there is no run.
    try:
        hold(folder)
    except OSError as error:
        raise UserError(
            f"--resume {folder}: cannot be written ({error.strerror}); copy it to where it can"
        ) from error
    record = read_record(folder)
    _check_record(folder, record)
    job = _job_of(folder, record.get("job"))
    tidy(folder)
    total = record.get("config", {}).get("steps")  # Not known while the model is loaded.
    if steps is not None:
        job, total = replace(job, settings={**job.settings, "steps": steps}), steps
    done = record["steps_done"]
    if total is not None and (done > total or done == total and is_whole(folder, record)):
        raise UserError(
            f"--resume {folder}: did its {done} steps already; make it longer with, for example, --steps {2 * done}"
        )
    return job


def is_whole(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a run came to its end, and what it came to is there."""
    return record.get("state") == "finished" and all(
        (folder / name).exists() for name in (SPLATS, VIDEO, STRIP)
    )


def check_job(folder: Path, record: dict[str, Any], job: Job) -> None:
    """That a record is of this job, on whatever device.

    Raises:
        UserError: it is another one's, or damaged.
    """
    _check_record(folder, record)
    noted = replace(_job_of(folder, record.get("job")), device=job.device)
    if noted == job:
        return
    there, asked = ({**asdict(one), **one.settings, "settings": None} for one in (noted, job))
    names = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
    raise UserError(
        f"{folder}: holds a run with other settings ({', '.join(names)}); choose another folder with --output"
    )


def tidy(folder: Path) -> None:
    """Removes what processes that were killed while they wrote left in a run's folder, which this process holds."""
    for path in leftovers(folder):
        path.unlink(missing_ok=True)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes a run's record, whole or not at all."""
    with atomic(folder / RECORD) as path:
        # Settings may hold what JSON does not know, such as a path; its text will do.
        path.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def note_job(folder: Path, job: Job) -> None:
    """Writes a first record, so that a run that is killed while its model is loaded can be resumed."""
    write_record(folder, {"state": "starting", "job": asdict(job), "steps_done": 0})


def _job_of(folder: Path, noted: Any) -> Job:
    """A record's job; what is no longer a field of it, an older version noted of the settings, given or not.

    Raises:
        UserError: it is damaged.
    """
    known = {field.name for field in fields(Job)}
    given = noted if isinstance(noted, dict) else {}
    try:
        job = of_plain(Job, {name: value for name, value in given.items() if name in known})
        if not 0 <= job.seed < 2**63:
            raise UserError(f"seed is {job.seed}")
    except UserError as error:
        raise UserError(
            f"{folder}: its {RECORD} is damaged or from another version ({error}); start the run again with --overwrite"
        ) from error
    if "settings" in given:
        return replace(job, settings=with_pairs(job.settings))
    older = {name: value for name, value in given.items() if name not in known and value not in (None, "")}
    return replace(job, settings=older)


def files_of_a_run(folder: Path) -> list[Path]:
    """Of any command's: one folder may have held an asset's run before and an image's now."""
    return [
        folder / name
        for name in (RECORD, CHECKPOINT, CHECKPOINT_BEFORE, SPLATS, VIDEO, STRIP, PAUSED, *IMAGES)
    ] + [
        *(folder / PREVIEWS).glob("step-*.png"),
        *(folder / SNAPSHOTS).glob("step-*.ply"),
        *leftovers(folder),
    ]


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of runs that were killed while they wrote."""
    names = "|".join(name.split(".")[0] for name in (RECORD, CHECKPOINT, SPLATS, VIDEO, *IMAGES))
    pattern = re.compile(rf"\.({names}|step-\d+)\.[0-9a-f]{{8}}\.\w+|{re.escape(PROBE)}")
    places = [place for place in (folder, folder / PREVIEWS, folder / SNAPSHOTS) if place.is_dir()]
    return [path for place in places for path in place.iterdir() if pattern.fullmatch(path.name)]
