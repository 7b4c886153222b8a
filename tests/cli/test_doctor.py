"""`rfgs doctor` is quick: it looks at files and drivers, and imports nothing that a model would need."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from rfgs.cli.main import main
main(sys.argv[1:])
print("imported:", *sorted({"torch", "diffusers", "transformers", "numba", "viser"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("flags", [(), ("--cards",)])
def test_it_takes_a_moment_and_imports_nothing_heavy(flags: tuple[str, ...]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor", *flags], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.endswith("\nimported:\n") and done.stderr == ""
    # Of the processor's time, which other programs do not change much; it waits for nothing.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def test_it_tells_of_all_that_decides() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor"], capture_output=True, text=True, check=True
    )
    for label in ("torch", "GPU", "nvcc", "gsplat", "disk", "model hub", "--device", "--backend"):
        assert any(line.startswith(label) for line in done.stdout.splitlines()), label
