"""The runs in a folder, as their own files tell of them: nothing is kept beside those."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.runs import folders, holding

MOST_SHOWN = 300
"""Runs, the newest."""
LONGEST_TEXT = 600
"""Letters of what a record says."""
PATIENCE = 5.0
"""Seconds for which it is believed whether another process is at work in a folder."""


@dataclass(frozen=True)
class Run:
    """What there is to show of one."""

    id: str
    """Of its folder: letters and digits, whatever that is called."""
    name: str
    prompt: str
    backend: str
    quality: str
    seed: str
    state: str
    """As its record has it; "gone" where that says running and nobody is at it, "elsewhere" where another program is."""
    done: int
    steps: int
    """0 where it is not known yet."""
    seconds: float
    when: float
    """Its record's last change, seconds since 1970."""
    picture: str
    """A word for the newest picture of it, another one for each; "" where there is none."""
    has_splats: bool
    error: str

    @property
    def goes_on(self) -> bool:
        """Whether --resume has something left to do without more steps."""
        return self.state not in ("finished", "running", "elsewhere")

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "goes_on": self.goes_on}


class Shelf:
    """Looks at a folder of runs whenever it is asked.

    Args:
        place: the folder; it need not be there yet.
        is_ours: whether a process of this studio is at work in a folder, which is then not asked for its lock.
    """

    def __init__(self, place: Path, is_ours: Callable[[Path], bool] = lambda folder: False) -> None:
        self.place = place
        self._is_ours = is_ours
        self._looked: dict[Path, tuple[float, bool]] = {}
        self._read: dict[Path, tuple[int, Mapping[str, Any]]] = {}

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        found = [run for folder in self.folders().values() if (run := self._run(folder)) is not None]
        return sorted(found, key=lambda run: run.when, reverse=True)[:MOST_SHOWN]

    def folders(self) -> dict[str, Path]:
        """By id, the folders in its place that hold a record; links elsewhere are left out."""
        try:
            there = [entry for entry in os.scandir(self.place) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return {}
        paths = [self.place / entry.name for entry in there]
        return {id_of(path): path for path in paths if (path / folders.RECORD).is_file()}

    def folder(self, id: object) -> Path:
        """The folder of a run.

        Raises:
            UserError: there is none of that id (any more).
        """
        found = self.folders().get(id) if isinstance(id, str) else None
        if found is None:
            raise UserError("That run is not there any more")
        return found

    def run(self, id: object) -> Run:
        """One run; UserError where there is none."""
        found = self._run(self.folder(id))
        if found is None:
            raise UserError("That run cannot be read: its run.json is damaged")
        return found

    def picture(self, folder: Path) -> Path | None:
        """The newest strip of views: the turntable's, or a preview."""
        strips = [folder / folders.STRIP, *(folder / folders.PREVIEWS).glob("step-*.png")]
        times = {path: stamp for path in strips if (stamp := _changed(path))}
        return max(times, key=lambda path: (times[path], path.name)) if times else None

    def _run(self, folder: Path) -> Run | None:
        record = self._record(folder)
        if record is None:
            return None
        job, config = _mapping(record.get("job")), _mapping(record.get("config"))
        state = _text(record.get("state"))
        if self._is_ours(folder):
            state = "running"
        elif state in ("starting", "running"):
            state = "elsewhere" if self._held(folder) else "gone"
        seconds = _mapping(record.get("seconds")).values()
        picture = self.picture(folder)
        return Run(
            id=id_of(folder),
            name=as_text(folder.name),
            prompt=_text(job.get("prompt")) or as_text(folder.name),
            backend=_text(job.get("model")),
            quality=_text(job.get("quality")),
            seed=_text(job.get("seed")),
            state=state,
            done=_count(record.get("steps_done")),
            steps=_count(config.get("steps")),
            seconds=sum(spent for spent in seconds if isinstance(spent, (int, float))),
            when=_changed(folder / folders.RECORD) / 1e9,
            picture="" if picture is None else f"{picture.stem}-{_changed(picture)}",
            has_splats=(folder / folders.SPLATS).is_file(),
            error=_text(record.get("error")) if state == "failed" else "",
        )

    def _record(self, folder: Path) -> Mapping[str, Any] | None:
        """Its record, read again only where it has changed."""
        changed = _changed(folder / folders.RECORD)
        if folder not in self._read or self._read[folder][0] != changed:
            try:
                self._read[folder] = (changed, folders.read_record(folder))
            except UserError:
                self._read.pop(folder, None)
                return None
        return self._read[folder][1]

    def _held(self, folder: Path) -> bool:
        """Whether another process is at work in a folder. Asking takes its lock for a moment, and so is done seldom."""
        now = time.monotonic()
        when, held = self._looked.get(folder, (-PATIENCE, False))
        if now - when >= PATIENCE:
            held = False
            if (folder / holding.LOCK).exists():
                try:
                    holding.check_free(folder)
                except (UserError, OSError):
                    held = True
            self._looked[folder] = (now, held)
        return held


def id_of(folder: Path) -> str:
    """A folder's name as letters and digits that fit into addresses, which names are not bound to."""
    return hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:20]


def as_text(name: str) -> str:
    """A file's name, which need not be any text, as one that can be sent."""
    return name.encode("utf-8", "replace").decode()[:LONGEST_TEXT]


def _text(value: object) -> str:
    return "" if value is None or isinstance(value, (dict, list)) else as_text(str(value))


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _changed(path: Path) -> int:
    """When a file was changed, nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
