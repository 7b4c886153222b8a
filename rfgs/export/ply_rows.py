"""PLY files as they come: their header, whoever wrote it, and the elements in it that are asked for, as rows of numbers.

plyfile, which writes ours, takes neither a comment in UTF-8 nor a property that is there twice, reads a header without an end
character by character, and believes every count. Here nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

LONGEST_HEADER = 1 << 20
"""Bytes."""

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float32": "f4", "float64": "f8"},
}  # fmt: skip
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


class Damaged(ValueError):
    """Why a file is not a PLY, or an incomplete one, in a line."""


@dataclass
class Element:
    """What a header says of one kind of rows."""

    name: str
    count: int
    columns: dict[str, str] = field(default_factory=dict)
    """numpy's types by name, without the order of bytes; of a property that is there twice the first counts."""
    has_lists: bool = False


@dataclass(frozen=True)
class Rows:
    """What was read."""

    elements: dict[str, np.ndarray]
    """Structured arrays [N] by element's name; those of a binary file stay on the disk until they are looked at."""
    comments: list[str]


def read_rows(path: Path, wanted: Collection[str]) -> Rows:
    """The elements of the names in `wanted` that there are; others, and what follows the last row, are passed over.

    Raises:
        Damaged: not a PLY, or an incomplete one.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        order, elements, comments, start = _header(stream.read(LONGEST_HEADER))
        stream.seek(start)
        found: dict[str, np.ndarray] = {}
        for element in elements:
            missing = {name for name in wanted if name not in found} & {one.name for one in elements}
            if not missing:
                break
            if element.has_lists and (order or element.name in missing):
                raise Damaged(f"its element {element.name} holds lists, as meshes do and splats do not")
            if element.name not in missing:
                _pass_over(stream, element, order)
            elif order:
                found[element.name] = _binary(path, stream, element, order)
            else:
                found[element.name] = _text(stream, element)
    return Rows(found, comments)


def _header(head: bytes) -> tuple[str, list[Element], list[str], int]:
    """The order of bytes ("" for text), the elements, the comments, and where the header ends."""
    first = re.match(rb"ply[ \t]*(\r\n|\n|\r)", head)
    if first is None:
        raise Damaged("it does not begin with the line ply")
    newline, position, number = first.group(1), first.end(), 1
    order: str | None = None
    elements: list[Element] = []
    comments: list[str] = []
    while True:
        end = head.find(newline, position)
        if end < 0:
            raise Damaged("its header has no end")
        line, position, number = _decoded(head[position:end]).strip(), end + len(newline), number + 1
        words = line.split()
        match words:
            case []:
                pass
            case ["end_header"]:
                break
            case ["comment", *_]:
                comments.append(line.removeprefix("comment")[1:])
            case ["obj_info", *_]:
                pass
            case ["format", name, "1.0"] if name in ORDERS:
                order = ORDERS[name]
            case ["element", name, count] if re.fullmatch("[0-9]{1,15}", count):
                elements.append(Element(name, int(count)))
            case ["property", "list", size, kind, _] if elements and size in TYPES and kind in TYPES:
                elements[-1].has_lists = True
            case ["property", kind, name] if elements and kind in TYPES:
                columns = elements[-1].columns
                columns[name if name not in columns else f"{name} {len(columns)}"] = TYPES[kind]
            case _:
                raise Damaged(f"line {number} of its header is {line[:60]!r}")
    if order is None:
        raise Damaged("its header names no format")
    return order, elements, comments, position


def _decoded(line: bytes) -> str:
    """The standard says ASCII, and people have names of their own."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _type(element: Element, order: str) -> np.dtype:
    return np.dtype([(name, order + kind) for name, kind in element.columns.items()])


def _binary(path: Path, stream: BinaryIO, element: Element, order: str) -> np.ndarray:
    kind, start = _type(element, order), stream.tell()
    there = path.stat().st_size - start
    if element.count * kind.itemsize > there:
        whole = max(0, there) // kind.itemsize
        raise Damaged(f"it is cut short: of {element.count} rows ({element.name}) {whole} are there")
    stream.seek(element.count * kind.itemsize, 1)
    if element.count * kind.itemsize == 0:
        return np.empty(0, kind)
    return np.memmap(path, kind, "r", start, (element.count,))


def _text(stream: BinaryIO, element: Element) -> np.ndarray:
    lines = list(islice(stream, element.count))
    if len(lines) < element.count:
        raise Damaged(f"it is cut short: of {element.count} rows ({element.name}) {len(lines)} are there")
    kind = _type(element, "")
    if not lines:
        return np.empty(0, kind)
    try:
        # Read as the widest and not as `kind`, in which an infinite or too large number would be no number of the row.
        values: Any = np.loadtxt(
            (line.decode("latin-1") for line in lines), np.float64, comments=None, ndmin=2
        )
    except ValueError as error:
        raise Damaged(f"its rows are not numbers: {str(error).splitlines()[0][:80]}") from error
    if values.shape != (len(lines), len(element.columns)):
        raise Damaged(f"its rows have {values.shape[1]} numbers for {len(element.columns)} properties")
    rows = np.empty(len(lines), kind)
    with np.errstate(all="ignore"):
        for index, name in enumerate(element.columns):
            rows[name] = values[:, index]
    return rows


def _pass_over(stream: BinaryIO, element: Element, order: str) -> None:
    if order:
        stream.seek(element.count * _type(element, order).itemsize, 1)
    else:
        for _ in islice(stream, element.count):
            pass
