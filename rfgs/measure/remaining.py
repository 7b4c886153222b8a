"""What a table of results lacks, shared out among the processes that fill it, so that nothing is made twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import Timeout

from rfgs.measure.rows import Reader, Row, lock

Key = TypeVar("Key")
Work = TypeVar("Work")


@contextmanager
def claim(table: Path, key: object) -> Iterator[bool]:
    """Whether this process may make the row `key` of a table; no other one may until the end of the block, or of the process."""
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    claimed = lock(table.parent / f"{table.stem}-{digest}", timeout=0)
    try:
        claimed.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        claimed.release()


def remaining(
    table: Path, wanted: Mapping[Key, Work], key: Callable[[Row], Key]
) -> Iterator[tuple[Key, Work]]:
    """The items of `wanted` that have no row, one by one, each claimed by this process until the next is asked for.

    What another process is at work on is passed by, not waited for, and what one has made since is left out.

    Args:
        table: may not be there yet.
        wanted: what is to be made, by the key of its row. A key is told from others by its `repr`.
        key: of a row.

    Raises:
        UserError: the table is damaged.
    """
    reader = Reader(table)
    made = {key(row) for row in reader.new()}
    for one, work in wanted.items():
        if one in made:
            continue
        with claim(table, one) as mine:
            # Another process may have made it since this one last looked.
            if mine:
                made |= {key(row) for row in reader.new()}
            if mine and one not in made:
                yield one, work
