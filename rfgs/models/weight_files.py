"""A file of weights by its start: what it says of its tensors, and whether it is whole. No torch here."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

from rfgs.models.about import object_in

_LONGEST_HEADER = 100_000_000
"""Bytes; safetensors' own limit."""


def damage(file: Path) -> str | None:
    """What is wrong with a file of weights by its start and its length; None if nothing is."""
    if file.suffix.lower() in (".safetensors", ".sft"):
        needed, size = _length(file), file.stat().st_size
        if needed is None:
            return "is not a file of weights (a Git LFS placeholder?)"
        return f"is cut short ({size} of {needed} bytes)" if size < needed else None
    if file.suffix != ".bin":
        return None
    with file.open("rb") as stream:
        start = stream.read(2)
    # Pickles are zip files, except those from before 2020.
    if start == b"PK":
        return None if zipfile.is_zipfile(file) else "is cut short"
    return None if start[:1] == b"\x80" else "is not a file of weights (a Git LFS placeholder?)"


def header(file: Path) -> dict[str, Any] | None:
    """What a file of safetensors says of its tensors (`dtype`, `shape`, `data_offsets`) by their names; None if nothing."""
    with file.open("rb") as stream:
        start = stream.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        text = stream.read(size) if size <= _LONGEST_HEADER else b""
    tensors = object_in(text)
    return None if tensors is None else {k: v for k, v in tensors.items() if k != "__metadata__"}


def _length(file: Path) -> int | None:
    """How many bytes a file of safetensors has to have by its own header; None if it has no such header."""
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            return None
        size = struct.unpack("<Q", start)[0]
        if size > _LONGEST_HEADER:
            return None
        text = stream.read(size)
    if len(text) < size:
        return 8 + size
    tensors = object_in(text)
    if tensors is None:
        return None
    try:
        ends = [v["data_offsets"][1] for k, v in tensors.items() if k != "__metadata__"]
        return 8 + size + max(ends, default=0)
    except (KeyError, TypeError, IndexError):
        return None
