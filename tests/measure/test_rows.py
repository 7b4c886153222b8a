"""Tables of JSON lines: whole rows come back, shared parts are written once, kills and other processes do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rfgs.errors import Unwritten, UserError
from rfgs.measure.rows import Reader, append_row, change_rows, check_settings, made_by, read_rows, write_rows

MACHINE = {"cpu": "one", "gpu": None, "versions": {"rfgs": "0.1.0", "bitsandbytes": None}}


def row(number: int, **more) -> dict:
    return {"number": number, "score": 0.1 + 0.2, **MACHINE, "git_commit": "abc", "scorer": "def", **more}


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "a.jsonl"
    rows = [row(0), row(1, config={"steps": 3}), {"number": 2, "settings": {"sizes": [1, 2]}, "name": "ß\n"}]
    rows.append({"number": 3})
    for one in rows:
        append_row(path, one)
    assert read_rows(path) == rows
    whole = tmp_path / "b.jsonl"
    write_rows(whole, rows)
    assert whole.read_bytes() == path.read_bytes()
    assert read_rows(tmp_path / "c.jsonl") == []


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.jsonl"
    append_row(path, row(0))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 9, limits[1]))
    try:
        with pytest.raises(Unwritten, match="a.jsonl: cannot be written"):
            append_row(path, row(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_what_made_rows_is_written_once_and_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for number in range(3):
        append_row(path, row(number, **made_by()))
    append_row(path, row(3, **(made_by() | {"cpu": "another"})))
    append_row(path, row(4, **made_by()))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.read_text().count('"versions"') == 2 and path.read_text().count('"git_commit"') == 1
    assert [line["shared"] for line in lines if "shared" in line] == [1, 2, 3]
    assert [line["uses"] for line in lines if "uses" in line] == [[1, 2]] * 3 + [[3, 2]] + [[1, 2]]


def test_tables_of_two_machines_are_one_when_put_together(tmp_path: Path) -> None:
    first, second, both = (tmp_path / f"{name}.jsonl" for name in "abc")
    write_rows(first, [row(0), row(1)])
    write_rows(second, [row(2, cpu="two")])
    both.write_bytes(first.read_bytes() + second.read_bytes())
    append_row(both, row(3, cpu="three"))
    append_row(both, row(4, cpu="two"))
    assert [one["cpu"] for one in read_rows(both)] == ["one", "one", "two", "three", "two"]


def test_a_reader_parses_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    reader = Reader(path)
    assert reader.new() == []
    append_row(path, row(0))
    assert reader.new() == [row(0)] and reader.new() == []
    append_row(path, row(1))  # Whose shared part was read before.
    with path.open("ab") as file:
        file.write(b'{"number"')  # Somebody is writing.
    assert reader.new() == [row(1)]
    append_row(path, row(2, cpu="another"))
    assert reader.new() == [row(2, cpu="another")]
    change_rows(path, lambda rows: rows[1:])
    assert reader.new() == [row(1), row(2, cpu="another")]
    with path.open("ab") as file:
        file.write(b"{\n")
    with pytest.raises(UserError, match="line 6 is damaged"):
        reader.new()


@pytest.mark.parametrize("cut", [1, 5, 60, 100])
def test_a_last_line_that_was_cut_off_is_no_row(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, [row(0)])
    length = path.stat().st_size
    append_row(path, row(1, cpu="another"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert len(whole) - length > cut and read_rows(path) == [row(0)]
    append_row(path, row(1, cpu="another"))
    assert read_rows(path) == [row(0), row(1, cpu="another")]
    assert b'"number": 1, "score": 0.30000000000000004}\n' == path.read_bytes()[-43:]


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"uses": [9]}', '{"uses": 1}', '{"shared": [1]}', "\xff"])
def test_a_damaged_table_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, [row(0)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line.encode("latin-1") + b"\n", *lines[2:]]))
    for use in (read_rows, lambda path: append_row(path, row(1)), lambda path: change_rows(path, list)):
        with pytest.raises(UserError, match=r"a\.jsonl: line 3 is damaged; remove it, or") as caught:
            use(path)
        assert "\n" not in str(caught.value)


APPEND = """
import sys
from pathlib import Path
from rfgs.measure.rows import append_row
for number in range(40):
    append_row(Path(sys.argv[1]), {"who": sys.argv[2], "number": number, "cpu": sys.argv[2], "padding": "x" * 5000})
"""


def test_two_processes_append_to_one_table(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    command = [sys.executable, "-c", APPEND, str(path)]
    both = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    for number in range(20):  # Rewritten at the same time, as by --rescore.
        change_rows(path, lambda rows: [{**one, "seen": True} for one in rows])
        append_row(path, {"who": "three", "number": number, "cpu": "three"})
    assert [process.wait(120) for process in both] == [0, 0]
    rows = read_rows(path)
    for name, count in (("one", 40), ("two", 40), ("three", 20)):
        assert [one["number"] for one in rows if one["who"] == one["cpu"] == name] == list(range(count))


def test_a_table_is_rewritten_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, [row(0), row(1)])
    before = path.read_bytes()

    def fail(rows: list) -> list:
        rows[0]["number"] = {1}  # What JSON does not know.
        return rows

    with pytest.raises(TypeError):
        change_rows(path, fail)
    assert path.read_bytes() == before and {file.name for file in tmp_path.iterdir()} == {"a.jsonl", ".locks"}


def test_results_of_other_settings_do_not_go_together(tmp_path: Path) -> None:
    rows = [{"settings": {"steps": 3, "sizes": [1, 2]}}]
    check_settings(tmp_path, rows, {"steps": 3, "sizes": (1, 2)})
    with pytest.raises(UserError, match=r"other settings \(steps, seed\)"):
        check_settings(tmp_path, rows, {"steps": 4, "sizes": (1, 2), "seed": 0})
