"""Style and types of the whole repository, so that one command tells whether a change may go in."""

from __future__ import annotations

import re
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


BRITISH = re.compile(
    r"\b\w*(colour|centre|behaviour|neighbour|favour|catalogue|artefact|licence|analys(e|ing)|distils?\b|learnt|cancelled"
    r"|(?:optim|normal|initial|linear|visual|serial|quant|raster|organ|general)is(e|ed|ing|ation|er)\b)\w*",
    re.IGNORECASE,
)
"""But for "grey", which is a word of the small world."""


def test_english_is_american() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")]
    files = [
        *pages,
        *(
            file
            for folder in ("rfgs", "cli", "training", "examples")
            for file in (ROOT / folder).rglob("*.py")
        ),
    ]
    found = {
        f"{file.relative_to(ROOT)}: {word[0]}"
        for file in files
        for word in BRITISH.finditer(file.read_text())
    }
    assert found == set()
