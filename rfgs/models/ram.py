"""How much of the CPU's memory this process may still take: the machine's, and less where its container has less.

No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rfgs.models.cgroups import groups

_UNLIMITED = 1 << 60
"""Bytes from which a control group of version 1 has no limit: it then says a number near the largest there is."""


def available(root: Path = Path("/")) -> int | None:
    """Bytes, the swap space included; None on systems that do not tell.

    What files have in the cache is free to be taken, and is not counted as used.

    Args:
        root: where /proc and /sys are; tests put others there.
    """
    found = _machine(root)
    if found is None:
        return None
    free, swap = found
    return min([free + swap, *_groups(root, swap)])


def _machine(root: Path) -> tuple[int, int] | None:
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return None  # Not Linux.
    free, swap = (re.search(rf"^{name}:\s+(\d+) kB$", text, re.M) for name in ("MemAvailable", "SwapFree"))
    return (1024 * int(free[1]), 1024 * int(swap[1]) if swap else 0) if free else None


def _groups(root: Path, swap: int) -> Iterator[int]:
    """Bytes that the control groups of this process leave, one a group that has a limit."""
    for version, group in groups(root, "memory"):
        found = _group(group, *(_FILES if version == 2 else _FILES_OF_VERSION_1))
        if found is not None:
            yield max(0, found) + swap


_FILES = ("memory.max", "memory.current", "file")
_FILES_OF_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")


def _group(group: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most = (group / limit).read_text().strip()
        if most == "max" or int(most) >= _UNLIMITED:
            return None
        used = int((group / usage).read_text())
        stat = re.search(rf"^{cache} (\d+)$", (group / "memory.stat").read_text(), re.M)
        return int(most) - used + (int(stat[1]) if stat else 0)
    except (OSError, ValueError):
        return None
