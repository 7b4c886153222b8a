"""What a benchmark runs: columns (a model and a guidance), prompts, seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rfgs.errors import UserError
from rfgs.runs.job import QUALITIES
from rfgs.settings import Setting

T = TypeVar("T")
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


Key = tuple[str, str, str, int]


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

    @property
    def key(self) -> Key:
        """What tells it from the other runs of a table: column, set, prompt, seed."""
        return self.column, self.prompt_set, self.prompt, self.seed


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


def part_of(runs: list[T], part: str) -> list[T]:
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
