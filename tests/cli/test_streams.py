"""A lost terminal, pipe or encoding ends no command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from rfgs.cli.streams import outlive
outlive()
sys.stdin.readline()
for stream in (sys.stdout, sys.stderr):
    for _ in range(3):
        print("caf\\xe9 \\u2603", file=stream, flush=True)
Path(sys.argv[1]).touch()
"""


def run(end: Path, environment: dict[str, str] | None = None, *, output: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(end)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env={**os.environ, **(environment or {})},
    )


def test_a_reader_that_went(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    program = run(tmp_path / "end", output=writer)
    os.close(writer)
    os.close(reader)
    program.communicate(b"\n")
    assert program.returncode == 0 and (tmp_path / "end").exists()


def test_a_terminal_that_went(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, its = pty.openpty()
    program = run(tmp_path / "end", output=its)
    os.close(its)
    os.close(ours)
    program.communicate(b"\n")
    assert program.returncode == 0 and (tmp_path / "end").exists()


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        program = run(tmp_path / "end", output=full.fileno())
        program.communicate(b"\n")
    assert program.returncode == 0 and (tmp_path / "end").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_an_encoding_lacks(encoding: str, tmp_path: Path) -> None:
    program = run(tmp_path / "end", {"PYTHONIOENCODING": encoding}, output=subprocess.PIPE)
    out, err = program.communicate(b"\n")
    assert program.returncode == 0 and b"\\u2603" in out and b"\\u2603" in err
