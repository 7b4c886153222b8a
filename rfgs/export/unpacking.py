"""Compressed files of other people: what they unfold to is no larger than an honest file's, and damage is told as such."""

from __future__ import annotations

import zipfile
import zlib

SMALL, RATIO = 64 << 20, 100
"""Bytes that anything may unfold to, and how many times its own size what is larger may; splats shrink 2 to 20 times."""
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError)
"""What somebody's JSON raises where a value is of another type or size than it should be."""


def check_size(unpacked: int, packed: int) -> None:
    """That so many bytes may come of so few.

    Raises:
        ValueError: an honest file would not.
    """
    if unpacked > max(SMALL, RATIO * packed):
        raise ValueError(f"its {packed:,} bytes would unfold to {unpacked:,}")


def member(bundle: zipfile.ZipFile, name: str) -> bytes:
    """A file in a ZIP archive.

    Raises:
        KeyError: there is none of this name.
        ValueError: it is damaged, encrypted, compressed in a way that is not read, or too large for what it is packed in.
    """
    about = bundle.getinfo(name)
    check_size(about.file_size, about.compress_size)
    try:
        return bundle.read(about)
    except (
        zlib.error,
        zipfile.BadZipFile,
        EOFError,
        RuntimeError,
    ) as error:  # Of which NotImplementedError is one.
        raise ValueError(f"{name} does not unfold, {error}") from error
