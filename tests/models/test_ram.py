"""How much memory is left: the machine's, and control groups of both versions, written as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rfgs.models import ram

GIB = 1 << 30
MEMINFO = f"MemTotal: 99 kB\nMemAvailable: {8 << 20} kB\nSwapFree: {1 << 20} kB"
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


def group(place: str, most: str, used: int, cached: int) -> dict[str, str]:
    if place.startswith(V1):
        names, cache = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_cache"
    else:
        names, cache = ("memory.max", "memory.current"), "file"
    stat = f"anon 5\n{cache} {cached * GIB}\ninactive_{cache} 7"
    return {f"{place}/{names[0]}": most, f"{place}/{names[1]}": str(used * GIB), f"{place}/memory.stat": stat}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 9),
        ({"proc/self/cgroup": "0::/"}, 9),
        ({"proc/self/cgroup": "0::/", **group(V2, "max", 3, 1)}, 9),
        # 6 GiB, of which 3 are used, 1 of them by the cache of files; and the swap space.
        ({"proc/self/cgroup": "0::/", **group(V2, str(6 * GIB), 3, 1)}, 5),
        ({"proc/self/cgroup": "0::/", **group(V2, str(60 * GIB), 3, 1)}, 9),
        ({"proc/self/cgroup": "0::/", **group(V2, "nonsense", 3, 1)}, 9),
        (
            {
                "proc/self/cgroup": "0::/job/step",
                **group(f"{V2}/job", str(4 * GIB), 2, 0),
                **group(f"{V2}/job/step", "max", 1, 0),
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/docker/abc", **group(V2, str(2 * GIB), 1, 0)}, 2),
        ({"proc/self/cgroup": "4:cpu:/\n3:memory:/docker/abc", **group(V1, str(6 * GIB), 4, 1)}, 4),
        ({"proc/self/cgroup": "3:memory:/", **group(V1, "9223372036854771712", 4, 1)}, 9),
        ({"proc/self/cgroup": "0::/", **group(V2, str(2 * GIB), 5, 0)}, 1),
    ],
)
def test_the_narrowest_limit_holds(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert ram.available(tmp_path) == expected * GIB


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert ram.available(tmp_path) is None
