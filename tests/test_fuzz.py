"""Damaged files of each kind that is read: one line or splats, pictures and records, never a traceback (`bench/fuzz.py`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[1] / "bench" / "fuzz.py"
READERS = (
    *("ply", "packed", "splat", "spz", "sog", "glb", "mesh", "cloud", "photo"),
    *("record", "checkpoint", "table", "index", "config", "weights", "prompts"),
)


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # Where dataclasses look.
    spec.loader.exec_module(module)
    return module


def test_all_readers_are_tried(fuzz: ModuleType) -> None:
    assert tuple(fuzz.READERS) == READERS


@pytest.mark.parametrize("name", READERS)
def test_damage_is_told_in_a_line(name: str, fuzz: ModuleType, tmp_path: Path) -> None:
    outcome = fuzz.tried(fuzz.READERS[name], tmp_path, 500, seed=1, in_time=False)
    assert outcome.faults == []
    assert sum(outcome.refused.values()) > 100 or name in ("index", "config")


def test_whole_files_are_read(fuzz: ModuleType, tmp_path: Path) -> None:
    for name, reader in fuzz.READERS.items():
        for content in reader.wholes():
            path = tmp_path / name / reader.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if reader.pack is None else reader.pack(content))
            reader.read(path)
