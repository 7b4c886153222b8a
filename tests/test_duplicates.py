"""No passage of six lines stands twice in the package: what two places need, one of them has, and the other calls."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = 6


def code_of(path: Path) -> list[tuple[int, str]]:
    """The lines with their numbers, without imports, docstrings, comments, and lines that are brackets alone."""
    text = path.read_text(encoding="utf-8")
    without: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, (ast.Import, ast.ImportFrom)) or is_text:
            without |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    plain = [(number, re.sub(r"\s+#.*|^\s*#.*", "", line).strip()) for number, line in lines]
    return [(number, line) for number, line in plain if number not in without and re.search(r"\w", line)]


def passages() -> dict[str, list[str]]:
    """Runs of LINES lines that stand in more than one place, and those places."""
    found: dict[str, list[str]] = defaultdict(list)
    files = [file for folder in ("rfgs", "cli", "training") for file in (ROOT / folder).rglob("*.py")]
    for path in sorted(files):
        lines = code_of(path)
        for at in range(len(lines) - LINES + 1):
            run = lines[at : at + LINES]
            found["\n".join(line for _, line in run)].append(f"{path.relative_to(ROOT)}:{run[0][0]}")
    return {run: places for run, places in found.items() if len(places) > 1}


def test_nothing_stands_twice() -> None:
    assert {tuple(places): run for run, places in passages().items()} == {}


def test_a_passage_that_stands_twice_is_found(monkeypatch, tmp_path: Path) -> None:
    passage = "\n".join(f"    a{i} = {i}" for i in range(LINES))
    (tmp_path / "rfgs").mkdir()
    (tmp_path / "rfgs/a.py").write_text(f"import os\ndef one():\n    '''Says.'''\n{passage}\n")
    (tmp_path / "rfgs/b.py").write_text(f"def other():\n    # Of its own.\n\n{passage}\n    return 1\n")
    monkeypatch.setattr("tests.test_duplicates.ROOT", tmp_path)
    assert list(passages().values()) == [["rfgs/a.py:4", "rfgs/b.py:4"]]
