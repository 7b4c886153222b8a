"""The control groups of this process, in which a container or a job's limits of cores and memory stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Version, 1 or 2, and folder of each group whose limit by `controller` ("cpu", "memory") holds; some may not be there.

    Args:
        root: where /proc and /sys are; tests put others there.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # Not Linux.
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names:  # Version 2 has one hierarchy for all.
            version, folders = 2, ["", "unified"]
        elif controller in names.split(","):
            version, folders = 1, list(dict.fromkeys((names, controller)))
        else:
            continue
        for folder in folders:
            # The limit of each group above holds too. A container may see the path from outside, which is not there for
            # it; its own group is then the folder itself.
            for inner in (path.strip("/"), *map(str, Path(path.strip("/")).parents)):
                yield version, root / "sys/fs/cgroup" / folder / inner
