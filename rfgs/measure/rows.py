"""Tables of results: a file of JSON lines, a row a run, with what many rows share written once and referred to by number.

    {"shared": 1, "cpu": "AMD EPYC, 2 cores", "gpu": null, "versions": {"rfgs": "0.1.0", "python": "3.11.7"}}
    {"shared": 2, "git_commit": "bd2bf40"}
    {"uses": [1, 2], "prompt": "a red mug", "seed": 0, "score": 71.3}

Whoever reads a row gets it whole; one that shares nothing is a plain line of JSON. A second machine, or another version, gets
a line and a number of its own. A number means the last part before a row that has it, so tables of several machines are put
together with `cat`. Rows are appended under a lock, so that several processes may fill one table, and a last line that a kill cut
off is no row.
"""

from __future__ import annotations

import errno
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from rfgs.errors import Unwritten, UserError
from rfgs.export.writing import atomic, made, reason
from rfgs.models import machine

Row = dict[str, Any]

BLOCK = 1 << 22
"""Bytes of a table that are parsed at once."""
SHARED = (("cpu", "gpu", "system", "versions"), ("git_commit", "scorer"), ("settings",), ("config",))
"""Names of values that rows share, those together that change together."""


def made_by(gpu: str | None = None) -> Row:
    """What made a result: processor, GPU, versions and commit, as parts of a row."""
    return {
        "cpu": machine.cpu_model(),
        "gpu": gpu,
        "versions": machine.versions(),
        "git_commit": machine.git_commit(),
    }


def lock(path: Path, *, timeout: float = -1) -> FileLock:
    """A lock between processes for what is at `path`, in the folder .locks beside it.

    It is the system's, not the file's presence: it goes when its process does, however that ends.

    Args:
        timeout: seconds to wait for another process; -1 waits for as long as it takes.
    """
    return FileLock(made(path.parent / ".locks") / path.name, timeout=timeout)


def read_rows(path: Path) -> list[Row]:
    """All rows of a table in the order of the file, each with what it shares; none where there is no file.

    Raises:
        UserError: a line that is no row, or a file that cannot be read.
    """
    return list(rows_of(path))


def rows_of(path: Path) -> Iterator[Row]:
    """`read_rows`, one by one: of a large table neither its text nor all rows have to be in memory."""
    if path.exists():
        try:
            with path.open("rb") as file:
                yield from _rows(path, _blocks_of(file), 0, {})
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines of a file, many at a time; what comes after the last line's end was cut off, or is being written now."""
    while lines := file.readlines(BLOCK):
        yield b"".join(line for line in lines if line.endswith(b"\n"))


class Reader:
    """A table that grows while it is read: what it has seen it does not parse again, which for 100,000 rows takes seconds."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, b""
        self.parts: dict[int, Row] = {}

    def new(self) -> list[Row]:
        """The rows since the last call; all of them where the file was written anew.

        Raises:
            UserError: a line that is no row, or a file that cannot be read.
        """
        content, before = _whole_lines(self.path), self.content
        if not content.startswith(before):
            before, self.parts = b"", {}
        rows = _parsed(self.path, content, len(before), self.parts)
        self.content = content
        return rows


@functools.cache
def _reader(path: Path) -> Reader:
    """This process's, for the tables that it appends to."""
    return Reader(path)


def append_row(path: Path, row: Row) -> None:
    """Add a row, in one write. The folder is made, and a line that was cut off goes.

    Raises:
        Unwritten: the disk does not take it; the table is as it was.
        UserError: the table is damaged.
    """
    with lock(path):
        reader = _reader(path.absolute())
        try:
            reader.new()
        except UserError:
            _reader.cache_clear()  # It has seen half of it.
            raise
        before = len(reader.content)
        text = _text([row], reader.parts)
        try:
            with path.open("ab", buffering=0) as file:
                file.truncate(before)
                if file.write(text) != len(text):
                    file.truncate(before)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise Unwritten(path, reason(error)) from error


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a table anew, whole or not at all; what was there goes. The folder is made."""
    with lock(path):
        _write(path, rows)


def change_rows(path: Path, change: Callable[[list[Row]], list[Row]]) -> None:
    """Write a table anew with what `change` makes of its rows; other processes wait.

    Raises:
        UserError: the table is damaged.
    """
    with lock(path):
        _write(path, change(read_rows(path)))


def check_settings(path: Path, rows: Iterable[Row], settings: Row) -> None:
    """Whether the results of a table may stand beside new ones.

    Args:
        settings: all that the results depend on, in what JSON knows.

    Raises:
        UserError: a row was made with other settings.
    """
    settings = json.loads(json.dumps(settings))  # As they come back from a file: tuples are lists there.
    for row in rows:
        before = row.get("settings", {})
        if other := [name for name in {**before, **settings} if before.get(name) != settings.get(name)]:
            raise UserError(
                f"{path}: was measured with other settings ({', '.join(other)}); "
                "remove it or choose another --output"
            )


def _write(path: Path, rows: Iterable[Row]) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(_text(rows, {}))


def _whole_lines(path: Path) -> bytes:
    """A file up to its last line's end: what comes after that was cut off, or is being written now."""
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return content[: content.rfind(b"\n") + 1]


def _parsed(path: Path, content: bytes, start: int, parts: dict[int, Row]) -> list[Row]:
    """The rows of a table from a line's start on; `parts` are those that are shared, by number, and get what is found of them."""
    blocks, first = _blocks(content, start), content[:start].count(b"\n")
    return list(_rows(path, blocks, first, parts))


def _blocks(content: bytes, start: int) -> Iterator[bytes]:
    """Whole lines from a line's start on, many at a time."""
    while start < len(content):
        end = content.rfind(b"\n", start, start + BLOCK) + 1 or content.index(b"\n", start) + 1
        yield content[start:end]
        start = end


def _rows(path: Path, blocks: Iterable[bytes], first: int, parts: dict[int, Row]) -> Iterator[Row]:
    """The rows of a table from blocks of lines; `first` lines come before them, and `parts` is as for `_parsed`.

    Many lines are parsed at once: names that all rows have are then one text for all of them, not one for each, which is a
    third of the memory.
    """
    for block in blocks:
        lines = block.splitlines()
        try:
            values = json.loads(b"[" + b",".join(lines) + b"]")
            if len(values) != len(lines):
                raise ValueError
        except (ValueError, RecursionError):
            values = [_value(path, line, first + number) for number, line in enumerate(lines, 1)]
        for number, found in enumerate(values, first + 1):
            try:
                if "shared" in found:
                    parts[int(found.pop("shared"))] = found
                    continue
                for part in found.pop("uses", ()):
                    found |= parts[part]
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                raise _damaged(path, number) from error
            yield found
        first += len(lines)


def _value(path: Path, line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number) from error


def _damaged(path: Path, number: int) -> UserError:
    return UserError(f"{path}: line {number} is damaged; remove it, or take the file from a copy")


def _text(rows: Iterable[Row], parts: dict[int, Row]) -> bytes:
    """Lines of rows, and before the first row that needs it a line for each part that is not among `parts`"""
    lines = []
    numbers = {json.dumps(part, sort_keys=True): number for number, part in parts.items()}
    last = max(parts, default=0)
    for row in rows:
        own, uses = dict(row), []
        for names in SHARED:
            if part := {name: own.pop(name) for name in names if name in own}:
                key = json.dumps(part, sort_keys=True)
                if key not in numbers:
                    last += 1
                    numbers[key] = last
                    lines.append({"shared": numbers[key], **part})
                uses.append(numbers[key])
        lines.append({"uses": uses, **own} if uses else own)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
