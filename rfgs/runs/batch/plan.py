"""What a batch is to make: assets, each with a folder whose name says which it is, and how far each is. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rfgs.errors import UserError
from rfgs.runs import folders
from rfgs.runs.job import Job

State = Literal["open", "begun", "done", "dropped"]


@dataclass(frozen=True)
class Asset:
    """One that is to be made."""

    job: Job
    folder: Path
    score: str = ""
    """By what it is scored (`rfgs.runs.batch.best.SCORES`); "" is not at all."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.job.prompt}, seed {self.job.seed}"


def name_of(prompt: str, seed: int, own: Mapping[str, str]) -> str:
    """The name of an asset's folder: "a-red-mug-0", with eight letters of a hash where words and seed do not say all.

    It depends on nothing else, so that lines may be added to a file, moved and removed, and nothing is made twice.

    Args:
        own: the settings of its line.
    """
    slug = folders.slug(prompt)
    said = {**own} if slug == prompt.replace(" ", "-") else {**own, "prompt": prompt}
    if not said:
        return f"{slug}-{seed}"
    return f"{slug}-{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]}-{seed}"


def distinct(assets: Iterable[Asset]) -> list[Asset]:
    """Each once, in their order: a prompt that is asked for twice is made once."""
    return list({asset.folder: asset for asset in assets}.values())


def states(folder: Path, assets: Sequence[Asset]) -> list[State]:
    """How far each asset is, by the records in their folders, which are in `folder`.

    Raises:
        UserError: a folder holds a run with other settings, or something else.
    """
    try:
        there = set(os.listdir(folder))
    except FileNotFoundError:
        there = set()
    except OSError as error:
        raise UserError(
            f"--output {folder}: cannot be read ({(error.strerror or str(error)).lower()}); choose another folder"
        ) from error
    return [state_of(asset) if asset.folder.name in there else "open" for asset in assets]


def state_of(asset: Asset) -> State:
    """How far an asset is: not begun, begun, made and scored, or made and not kept (`rfgs.runs.batch.best`).

    Raises:
        UserError: its folder holds a run with other settings, or something else.
    """
    if not (asset.folder / folders.RECORD).exists():
        return "open"
    record = folders.read_record(asset.folder)
    folders.check_job(asset.folder, record, asset.job)
    if record.get("kept") is False:
        return "dropped"
    scored = not asset.score or asset.score in record.get("scores", {})
    return "done" if scored and folders.is_whole(asset.folder, record) else "begun"
