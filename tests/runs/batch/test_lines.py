"""Prompts as people hand them over: typed, a line each, in tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from rfgs.errors import UserError
from rfgs.runs.batch.lines import Line, read


def test_prompts_are_typed_or_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffa red cube\r\n\n  # not this\n a blue ball \n".encode())
    assert read([str(file), "a cat"]) == [
        Line(f"{file}, line 1", "a red cube"),
        Line(f"{file}, line 4", "a blue ball"),
        Line('prompt "a cat"', "a cat"),
    ]


def test_a_table_has_columns_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('Prompt,--guidance-scale,seed\n"a cat, red",5,\n\na dog,,7\n')
    assert read([str(file)]) == [
        Line(f"{file}, line 2", "a cat, red", {"guidance_scale": "5"}),
        Line(f"{file}, line 4", "a dog", {"seed": "7"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"a cat\nb\xff\n", "a.txt, line 2: is not UTF-8"),
        ("a.txt", b"# nothing\n", "a.txt: holds no prompts"),
        ("a.csv", b"words,seed\na,1\n", "a.csv, line 1: has to name the columns"),
        (
            "a.csv",
            b"prompt\na cat, red\n",
            "a.csv, line 2: has 2 cells for 1 columns; put a prompt with commas",
        ),
        ("a.csv", b'prompt\n"a cat\n', "is not a row of a table"),
        ("a.csv", None, "a.csv: cannot be read"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        read([str(tmp_path / name)])


def test_nothing_is_no_batch() -> None:
    with pytest.raises(UserError, match="no prompts; name a file"):
        read([])
