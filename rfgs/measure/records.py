"""What a folder of results holds: one table with a record a run, and the assets.

FOLDER/results.jsonl                    the records (`rfgs.measure.rows`), each there once its run is whole
FOLDER/COLUMN/SET-PROMPT-SEED.ply       the asset; bounds (`rfgs.measure.plan.BOUNDS`) have none
FOLDER/.locks/                          who is at work on what
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.measure.plan import BOUNDS, Key, Run
from rfgs.measure.rows import change_rows, rows_of
from rfgs.runs.folders import slug
from rfgs.runs.plain import of_plain

Record = dict[str, Any]


def table_path(folder: Path) -> Path:
    """Where the records of a folder are."""
    return folder / "results.jsonl"


def asset_path(folder: Path, run: Run) -> Path:
    """Where the asset of a run is."""
    return folder.joinpath(*_place(run.key))


def _place(key: Key) -> tuple[str, str]:
    """Names of the folder and the file of a run's asset."""
    column, prompt_set, prompt, seed = key
    return _name(column), f"{prompt_set}-{_words(prompt)}-{seed}.ply"


@functools.lru_cache(maxsize=10_000)
def _name(column: str) -> str:
    return re.sub(r"[^\w.-]+", "-", column).strip("-")


@functools.lru_cache(maxsize=10_000)
def _words(prompt: str) -> str:
    return slug(prompt, 100)


def run_of(record: Record) -> Run:
    """The run that a record is of."""
    return Run(**record["run"])


def records_by_key(folder: Path) -> dict[Key, Record]:
    """All records by their runs' keys; of two of one run, as where tables were put together, the later one.

    Raises:
        UserError: the table is damaged, or is another program's.
    """
    path, found = table_path(folder), {}
    for number, record in enumerate(rows_of(path), 1):
        try:
            run = of_plain(Run, record.get("run"))
        except UserError as error:
            raise UserError(
                f"{path}: has rows that are no runs of `rfgs bench` (row {number}: {error}); remove them, or choose "
                "another folder"
            ) from error
        # Columns, sets and prompts come again and again, and one text of each is enough.
        for name, value in record["run"].items():
            if isinstance(value, str):
                record["run"][name] = sys.intern(value)
        found[run.key] = record
    return found


def check_figures(folder: Path, records: Sequence[Record]) -> None:
    """That records have what tables are made of.

    Raises:
        UserError: one has not.
    """
    for record in records:
        problem = _lack(record)
        if problem:
            run = run_of(record)
            raise UserError(
                f"{table_path(folder)}: {run.column}, {run.prompt!r}, seed {run.seed} {problem}; remove its line"
            )


def _lack(record: Record) -> str:
    for name in ("score", "truth", "seconds", "evaluations"):
        figures = record.get(name, {})
        if not isinstance(figures, dict) or not all(map(_is_figure, figures.values())):
            return f"has a {name} that is no list of numbers"
    needed = {"score": dict, "scorer": str, "seconds": dict, "evaluations": dict, "versions": dict}
    lacking = [name for name, kind in needed.items() if not isinstance(record.get(name), kind)]
    lacking += ["total of seconds"] * ("total" not in record.get("seconds", {}))
    lacking += ["splats"] * (record["run"]["column"] not in BOUNDS and not _is_figure(record.get("splats")))
    lacking += ["git_commit"] * (not isinstance(record.get("git_commit", 0), str | None))
    if not lacking and not isinstance(record["versions"].get("rfgs"), str):
        lacking = ["version"]
    return f"has no {lacking[0]}" if lacking else ""


def _is_figure(value: Any) -> bool:
    # Python's whole numbers may be larger than any float.
    return isinstance(value, float) or isinstance(value, int) and abs(value) < 2**63


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, in the order of their assets' paths, so that it does not matter who finished first.

    Raises:
        UserError: there is none, or the table is damaged.
    """
    records = records_by_key(folder)
    if not records:
        raise UserError(f"{folder}: holds no results; fill it with `rfgs bench --output {folder}`")
    return [records[key] for key in sorted(records, key=_place)]


def records_of(folder: Path, runs: Sequence[Run]) -> list[Record]:
    """The records of those of `runs` that are done; others may be at work on the rest."""
    found = records_by_key(folder)
    return [found[run.key] for run in runs if run.key in found]


def still_open(folder: Path, runs: Sequence[Run]) -> list[Run]:
    """Those of `runs` that have no record.

    Raises:
        UserError: there is a record of a run with other settings, which must not end up in the same table.
    """
    found, left = records_by_key(folder), []
    for run in runs:
        if run.key not in found:
            left.append(run)
            continue
        there, asked = found[run.key]["run"], json.loads(json.dumps(asdict(run)))
        if differ := sorted(name for name in asked if there.get(name) != asked[name]):
            raise UserError(
                f"{table_path(folder)}: has {run.column}, {run.prompt!r}, seed {run.seed} as a run with other "
                f"settings ({', '.join(differ)}); choose another folder with --output"
            )
    return left


def replace_record(folder: Path, record: Record) -> None:
    """Write a record in the place of the same run's; other processes may go on adding theirs."""
    key = run_of(record).key
    change_rows(
        table_path(folder),
        lambda rows: [record if run_of(row).key == key else row for row in rows],
    )
