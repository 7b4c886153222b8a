"""What a benchmark runs: columns (a model and a guidance), prompts, seeds, and the files of each run.

    RESULTS/COLUMN/SET-PROMPT-SEED.json     the record, there once the run is whole
    RESULTS/COLUMN/SET-PROMPT-SEED.ply      the asset
    RESULTS/.locks/                         who is at work on what

Records of bounds (`BOUNDS`) lie in folders beside, without assets.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.runs.folders import slug
from rfgs.runs.job import QUALITIES
from rfgs.settings import Setting

SETS = ("single", "surroundings", "multiple", "open")
TRUTH, FIT, WRONG, START = "truth", "fit", "wrong", "start"
BOUNDS = {
    TRUTH: "upper bound: the world's own renders of what the prompt names",
    FIT: "upper bound: splats fitted to what the prompt names, by the loop's own renderer and settings",
    WRONG: "lower bound: the world's own renders of the set's next prompt",
    START: "lower bound: the ball of splats that a run starts from",
}


@dataclass(frozen=True)
class Column:
    """One method in the table."""

    model: str
    guidance: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the loop, of the guidance and `RUN_SETTINGS`, by name, that differ from the model's recipe."""
    label: str = ""
    """Names the folder; "" is MODEL:GUIDANCE."""

    @property
    def name(self) -> str:
        return self.label or f"{self.model}:{self.guidance}"


COLUMNS = (
    Column("tiny-sd", "sds"),
    Column("tiny-sd", "vsd"),
    Column("tiny-instaflow", "rfds"),
    Column("tiny-instaflow", "rfds-rev"),
    Column("tiny-sd3", "rfds"),
    Column("tiny-sd3", "rfds-rev"),
    Column("tiny-sd3", "rfds-vsd"),
)
"""Those of the paper's Table 1, with the embedded models in the places of its models, and RFDS-VSD."""

RUN_SETTINGS = {"second_guidance": Setting("second_guidance", str, "", "The guidance from half way on.")}
"""Besides the loop's settings."""


@dataclass(frozen=True)
class Run:
    """Everything that decides one result."""

    column: str
    model: str
    guidance: str
    prompt_set: str
    prompt: str
    seed: int
    steps: int
    views_per_step: int
    splats: int
    densify: str = "none"
    settings: dict[str, Any] = field(default_factory=dict)


def plan(
    columns: Sequence[Column],
    prompts: dict[str, list[str]],
    seeds: int,
    quality: dict[str, Any],
) -> list[Run]:
    """All runs: every column of a prompt before the next prompt, every set's n-th prompt before the next one, seed by seed.

    So a benchmark that is stopped has as much of one column as of another.
    """
    runs = []
    longest = max((len(names) for names in prompts.values()), default=0)
    for seed in range(seeds):
        for number in range(longest):
            for prompt_set, names in prompts.items():
                if number < len(names):
                    runs += [_run(column, prompt_set, names[number], seed, quality) for column in columns]
    return runs


def _run(column: Column, prompt_set: str, prompt: str, seed: int, quality: dict[str, Any]) -> Run:
    settings = dict(column.settings)
    if column.name in BOUNDS:
        # Bounds are the same whatever the columns beside them do.
        settings = {}
        quality = {
            "steps": 0,
            "views_per_step": 0,
            "splats": QUALITIES["normal"]["splats"],
            "densify": "none",
        }
    return Run(
        column=column.name,
        model=column.model,
        guidance=settings.pop("guidance", column.guidance),
        prompt_set=prompt_set,
        prompt=prompt,
        seed=seed,
        steps=settings.pop("steps", quality["steps"]),
        views_per_step=settings.pop("views_per_step", quality["views_per_step"]),
        splats=settings.pop("splats", quality["splats"]),
        densify=settings.pop("densify", quality["densify"]),
        settings=settings,
    )


def read_prompts(sets: Sequence[str], count: int | None = None, skip: int = 0) -> dict[str, list[str]]:
    """The first `count` prompts (None: all) of each set that ships, after those that are skipped."""
    from importlib.resources import files

    for name in sets:
        if name not in SETS:
            raise UserError(f"--sets {name}: there are {', '.join(SETS)}")
    folder = files("rfgs.assets") / "prompts"
    prompts = {name: (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in sets}
    for name in sets:
        if not 0 <= skip < len(prompts[name]):
            raise UserError(f"--skip {skip}: {name} has {len(prompts[name])} prompts, and one has to be left")
    return {name: prompts[name][skip:][:count] for name in sets}


def find_columns(names: Sequence[str]) -> list[Column]:
    """Columns by their names (MODEL:GUIDANCE); the model may be any that `rfgs generate` takes.

    Raises:
        UserError: a name that is none.
    """
    from rfgs.guidance import find_guide, guides

    found = []
    for name in names:
        model, _, guidance = name.rpartition(":")
        if guidance not in guides() and ":" in model:
            # A guidance of somebody's own, which is module:Class.
            model, _, module = model.rpartition(":")
            find_guide(guidance := f"{module}:{guidance}")
        elif not model or guidance not in guides():
            known = ", ".join(column.name for column in COLUMNS)
            raise UserError(f"--columns {name}: is not MODEL:GUIDANCE; the table's own are {known}")
        found.append(Column(model, guidance))
    return found


def quality_of(name: str, steps: int | None) -> dict[str, Any]:
    """A preset, with another number of steps where one is given."""
    return {**QUALITIES[name], **({} if steps is None else {"steps": steps})}  # type: ignore[index]


def part_of(runs: list[Run], part: str) -> list[Run]:
    """Every N-th run from the K-th on, by "K/N".

    Raises:
        UserError: it is not K/N with 1 <= K <= N.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(
            f"--part {part}: is not K/N with K from 1 to N; try --part 1/2 here and 2/2 elsewhere"
        )
    return runs[int(match[1]) - 1 :: int(match[2])]


# --- files ------------------------------------------------------------------------------------------------------------


def record_path(folder: Path, run: Run) -> Path:
    """Where the record of a run is, once it is done; the asset is beside it with the suffix .ply."""
    name = f"{run.prompt_set}-{slug(run.prompt, 100)}-{run.seed}.json"
    return folder / re.sub(r"[^\w.-]+", "-", run.column).strip("-") / name


def is_done(folder: Path, run: Run) -> bool:
    """Whether there is a record of this run.

    Raises:
        UserError: there is one of a run with other settings, which must not end up in the same table.
    """
    path = record_path(folder, run)
    if not path.exists():
        return False
    there, asked = read_record(path)["run"], json.loads(json.dumps(asdict(run)))
    if there != asked:
        differ = sorted(name for name in asked if there.get(name) != asked[name])
        raise UserError(
            f"{path}: is of a run with other settings ({', '.join(differ)}); choose another folder with --output"
        )
    return True


def read_record(path: Path) -> dict[str, Any]:
    """A run's record.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; remove it and run again") from error


def write_record(path: Path, record: dict[str, Any]) -> None:
    """A record that is there whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def records_of(folder: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The records of those of `runs` that are done; others may be at work on the rest."""
    paths = [record_path(folder, run) for run in runs]
    return [read_record(path) for path in paths if path.exists()]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records in a results folder, in the order of their paths.

    Raises:
        UserError: there is none.
    """
    records = [read_record(path) for path in sorted(folder.glob("*/*.json")) if path.name[0] != "."]
    if not records:
        raise UserError(f"{folder}: holds no results; fill it with `rfgs bench --output {folder}`")
    return records


@contextmanager
def claim(folder: Path, run: Run) -> Iterator[bool]:
    """Whether this process may do a run; no other one may until the end of the block.

    The lock is the system's, not the file's presence: it goes when the process does, however that ends. Its file stays,
    since a file that is removed while another process waits for it would be two locks.
    """
    path = record_path(folder, run)
    lock = folder / ".locks" / f"{path.parent.name}-{path.stem}"
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_CREAT | os.O_RDWR)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
