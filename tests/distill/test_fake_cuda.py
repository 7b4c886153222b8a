"""`cases_on_fake_cuda.py` in a process of its own: torch is told of the device once, before its first backward pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_whole_step_on_a_device_that_computes_nothing() -> None:
    cases = Path(__file__).with_name("cases_on_fake_cuda.py")
    command = [sys.executable, "-m", "pytest", "-q", str(cases)]
    done = subprocess.run(command, cwd=cases.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
