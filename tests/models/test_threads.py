"""How many threads: affinity, OMP_NUM_THREADS, and control groups of both versions, written as files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rfgs.models import threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "affinity", lambda: 8)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "140000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "6400000 100000"}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        # The group above is the narrower one.
        (
            {
                "proc/self/cgroup": "0::/job/step",
                "sys/fs/cgroup/job/cpu.max": "300000 100000",
                "sys/fs/cgroup/job/step/cpu.max": "max 100000",
            },
            3,
        ),
        # A container that sees its path from outside.
        ({"proc/self/cgroup": "0::/docker/abc", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        (
            {
                "proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/abc",
                f"{V1}/cpu.cfs_quota_us": "250000",
                f"{V1}/cpu.cfs_period_us": "50000",
            },
            5,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n0::/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            8,
        ),
    ],
)
def test_shares_of_control_groups(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert threads.usable(write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("2,4", 2), ("64", 8), ("0", 8), ("", 8), ("many", 8)]
)
def test_omp_num_threads_lowers_it(
    text: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert (threads.usable(tmp_path), threads.cores(tmp_path)) == (expected, 8)


def test_torch_hears_of_a_containers_share(tmp_path: Path) -> None:
    """The program `rfgs` sets OMP_NUM_THREADS where torch would count too many cores, and nowhere else."""
    script = "import os; from rfgs.cli.main import _set_threads; _set_threads(); print(os.environ.get('OMP_NUM_THREADS'))"
    fake = (
        "import os, pathlib; os.sched_getaffinity = lambda pid: set(range(8)); real = pathlib.Path.read_text\n"
        "pathlib.Path.read_text = lambda p, *a, **k: {'/proc/self/cgroup': '0::/', '/sys/fs/cgroup/cpu.max': %r}.get("
        "str(p)) or real(p, *a, **k)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for quota, expected in (("300000 100000", "3"), ("max 100000", "None")):
        done = subprocess.run(
            [sys.executable, "-c", fake % quota + script],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert done.stdout.strip() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    script = f"{one}; from rfgs.models import threads; print(threads.usable())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
