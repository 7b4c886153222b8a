"""A folder of results: what is done, and who is at work on the rest."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rfgs.errors import UserError
from rfgs.measure.plan import Column, plan
from rfgs.measure.records import (
    asset_path,
    check_figures,
    read_records,
    records_of,
    replace_record,
    still_open,
    table_path,
)
from rfgs.measure.rows import append_row, write_rows
from rfgs.runs.job import QUALITIES

DRAFT = QUALITIES["draft"]
COLUMN = Column("m", "rfds", {"final_noise_range": (0.1, 0.9)})


def test_done_is_a_record_of_the_same_run(tmp_path: Path) -> None:
    run, other = plan([COLUMN], {"single": ["a red mug"]}, 2, DRAFT)
    assert asset_path(tmp_path, run).relative_to(tmp_path) == Path("m-rfds/single-a-red-mug-0.ply")
    assert still_open(tmp_path, [run, other]) == [run, other]
    append_row(table_path(tmp_path), {"run": asdict(run)})
    assert still_open(tmp_path, [run, other]) == [other]
    assert len(records_of(tmp_path, [run, other])) == 1
    told = r"results.jsonl: has m:rfds, 'a red mug', seed 0 as a run with other settings \(settings, steps\)"
    with pytest.raises(UserError, match=told):
        still_open(tmp_path, [replace(run, steps=3, settings={})])


def test_records_have_an_order_of_their_own_and_each_run_one(tmp_path: Path) -> None:
    runs = plan([COLUMN, Column("m", "sds")], {"single": ["a red mug", "a blue car"]}, 1, DRAFT)
    write_rows(table_path(tmp_path), [{"run": asdict(run), "score": 1} for run in runs])
    append_row(table_path(tmp_path), {"run": asdict(runs[0]), "score": 2})  # From another machine's table.
    records = read_records(tmp_path)
    assert [(r["run"]["column"], r["run"]["prompt"], r["score"]) for r in records] == [
        ("m:rfds", "a blue car", 1),
        ("m:rfds", "a red mug", 2),
        ("m:sds", "a blue car", 1),
        ("m:sds", "a red mug", 1),
    ]
    replace_record(tmp_path, {**records[2], "score": 3})
    assert [record["score"] for record in read_records(tmp_path)] == [1, 2, 3, 1]


def test_what_is_no_folder_of_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results; fill it"):
        read_records(tmp_path)
    for row in ({"method": "a"}, {"run": {"column": "a"}}):
        write_rows(table_path(tmp_path), [row])
        with pytest.raises(UserError, match=r"results\.jsonl: has rows that are no runs of `rfgs bench`"):
            read_records(tmp_path)


def test_a_record_of_which_no_table_can_be_made_is_told(tmp_path: Path) -> None:
    (run,) = plan([COLUMN], {"single": ["a red mug"]}, 1, DRAFT)
    whole = {
        "run": asdict(run), "score": {"score": 1.0}, "scorer": "a", "seconds": {"total": 1}, "evaluations": {}, "splats": 3,
        "versions": {"rfgs": "0.1"}, "git_commit": None,
    }  # fmt: skip
    check_figures(tmp_path, [whole])
    for name, value, told in (
        ("score", {"score": "high"}, "has a score that is no list of numbers"),
        ("seconds", {}, "has no total of seconds"),
        ("splats", 10**400, "has no splats"),
        ("versions", {}, "has no version"),
        ("scorer", None, "has no scorer"),
    ):
        with pytest.raises(UserError, match=f"m:rfds, 'a red mug', seed 0 {told}; remove its line"):
            check_figures(tmp_path, [{**whole, name: value}])
