"""Style and types of the whole repository, so that one command tells whether a change may go in."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed (pip install -e '.[dev]')")
def test_style() -> None:
    run("ruff", "check", "--quiet", "--output-format", "concise", ".")


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed (pip install -e '.[dev]')")
def test_types() -> None:
    run("mypy")
