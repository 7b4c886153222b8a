"""The rooms of the package: few, and each one knows only those before it."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = (
    "errors",
    "settings",
    "splats",
    "models",
    "render",
    "priors",
    "guidance",
    "distill",
    "export",
    "tinyworld",
    "runs",
    "flat",
    "viewer",
    "measure",
    "cli",
)
"""From what everything uses to what uses everything."""


def imports() -> set[tuple[str, str]]:
    """(room, room it imports from), of all modules, imports inside functions included."""
    found = set()
    for file in [*(ROOT / "rfgs").rglob("*.py"), *(ROOT / "cli").glob("*.py")]:
        inside = file.relative_to(ROOT).with_suffix("").parts
        room = "cli" if inside[0] == "cli" else inside[1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.ImportFrom)
                and node.level == 0
                and (node.module or "").split(".")[0] == "rfgs"
            ):
                names = [f"{node.module}.{alias.name}".split(".")[1] for alias in node.names]
                found |= {(room, name) for name in names if name not in (room, "__version__")}
    return found


def test_the_top_of_the_package_is_its_rooms() -> None:
    top = {
        path.stem
        for path in (ROOT / "rfgs").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert top == {*ROOMS, "__init__"} - {"cli"}


def test_no_arrow_points_upward() -> None:
    assert {(room, used) for room, used in imports() if ROOMS.index(used) > ROOMS.index(room)} == set()


def test_no_module_is_long() -> None:
    """What has more than 300 lines has a seam."""
    files = [file for room in ("rfgs", "cli", "training") for file in (ROOT / room).rglob("*.py")]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_training_is_not_installed_and_nothing_that_is_needs_it() -> None:
    """It lies beside the package, from where a wheel takes nothing (tests/test_package.py)."""
    files = [*(ROOT / "rfgs").rglob("*.py"), *(ROOT / "cli").glob("*.py")]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not [name for name in names if name.split(".")[0] in ("training", "tests", "bench", "program")]


@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-sd", "tiny-instaflow", "scorer"])
def test_weights_say_by_which_program_they_are_made(name: str) -> None:
    command = json.loads((ROOT / "assets" / name / "training.json").read_text())["command"]
    (program,) = re.findall(r"python -m (\S+)", command)
    assert (ROOT / program.replace(".", "/")).with_suffix(".py").exists()
