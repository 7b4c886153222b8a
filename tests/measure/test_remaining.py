"""Tables that several processes fill."""

import subprocess
import sys
from pathlib import Path

from rfgs.measure.remaining import claim, remaining
from rfgs.measure.rows import Row, append_row

HOLD = """
import sys, time
from pathlib import Path
from rfgs.measure.remaining import claim
with claim(Path(sys.argv[1]), ("a red mug", 0)) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_row_is_claimed_by_one_process_until_that_is_killed(tmp_path: Path) -> None:
    table = tmp_path / "a.jsonl"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(table)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        with claim(table, ("a red mug", 0)) as mine, claim(table, ("a red mug", 1)) as others:
            assert not mine and others
        with claim(tmp_path / "b.jsonl", ("a red mug", 0)) as elsewhere:
            assert elsewhere
    finally:
        holder.kill()
        holder.wait()
    with claim(table, ("a red mug", 0)) as mine:
        assert mine


def test_what_is_there_is_made_meanwhile_or_is_being_made_is_passed_by(tmp_path: Path) -> None:
    table, made = tmp_path / "a.jsonl", []

    def key(row: Row) -> int:
        return int(row["seed"])

    append_row(table, {"seed": 0})
    wanted = {seed: f"work {seed}" for seed in range(5)}
    with claim(table, 1):
        for seed, work in remaining(table, wanted, key):
            made.append((seed, work))
            append_row(table, {"seed": seed})
            if seed == 2:  # Another process's.
                append_row(table, {"seed": 3})
    assert made == [(2, "work 2"), (4, "work 4")]
    assert [seed for seed, _ in remaining(table, wanted, key)] == [1]


def test_one_that_is_broken_off_is_free_for_others(tmp_path: Path) -> None:
    table = tmp_path / "a.jsonl"
    working = remaining(table, {0: None, 1: None}, lambda row: row["seed"])
    assert next(working)[0] == 0
    assert [key for key, _ in remaining(table, {0: None, 1: None}, lambda row: row["seed"])] == [1]
    working.close()
    assert [key for key, _ in remaining(table, {0: None, 1: None}, lambda row: row["seed"])] == [0, 1]
