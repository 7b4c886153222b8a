"""How many threads are worth having: what the process may run on, its container's share of time, OMP_NUM_THREADS.

No torch here, since torch reads OMP_NUM_THREADS when it is imported; `rfgs/__init__.py` sets that from here.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from rfgs.models.cgroups import groups


def usable(root: Path = Path("/")) -> int:
    """The number of threads to compute with, at least 1: `cores`, or OMP_NUM_THREADS if that is less.

    Never chosen by what other programs do at the moment: it is the same in every run of a command on a machine.

    Args:
        root: where /proc and /sys are; tests put others there.
    """
    asked = _requested()
    return cores(root) if asked is None else min(cores(root), asked)


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may run on (`taskset`), or its container's share of their time, if that is less."""
    share = _share(root)
    return affinity() if share is None else min(affinity(), share)


def affinity() -> int:
    """Cores that this process may run on, whatever the share of their time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def _requested() -> int | None:
    """OMP_NUM_THREADS, of which a list ("4,2") gives the number for each level of nesting."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 else None


@functools.cache
def _share(root: Path) -> int | None:
    """Whole cores' worth of time that the control groups of this process allow (`docker --cpus`); None for no limit.

    Rounded to the nearest: with 1.5 cores two threads do half as much again as one, with 1.1 they wait for each other.
    """
    quotas = [
        (_quota if version == 2 else _quota_of_version_1)(group) for version, group in groups(root, "cpu")
    ]
    found = [quota for quota in quotas if quota is not None]
    return max(1, int(min(found) + 0.5)) if found else None


def _quota(group: Path) -> float | None:
    """Cores, of "max 100000" (no limit) or "150000 100000" (microseconds of time in a period)."""
    try:
        allowed, period = (group / "cpu.max").read_text().split()
        return None if allowed == "max" else int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_of_version_1(group: Path) -> float | None:
    """The same of two files; -1 is no limit."""
    try:
        allowed = int((group / "cpu.cfs_quota_us").read_text())
        return allowed / int((group / "cpu.cfs_period_us").read_text()) if allowed > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
