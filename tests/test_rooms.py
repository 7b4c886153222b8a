"""The rooms of the package: few, and each one knows only those before it."""

from __future__ import annotations

import ast
from pathlib import Path

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
    "batch",
    "flat",
    "viewer",
    "studio",
    "measure",
    "training",
    "cli",
)
"""From what everything uses to what uses everything."""
STILL_UPWARD: set[tuple[str, str]] = set()


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
    upward = {(room, used) for room, used in imports() if ROOMS.index(used) > ROOMS.index(room)}
    assert upward == STILL_UPWARD


def test_no_command_needs_the_training() -> None:
    assert {room for room, used in imports() if used == "training"} <= {"training"}
