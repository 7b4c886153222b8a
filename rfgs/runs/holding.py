"""Whose a run's folder is: one process's at a time, by a lock that goes when its process does, however that ends."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rfgs.errors import UserError

if TYPE_CHECKING:
    from filelock import FileLock

LOCK, HOLDER = ".lock", ".holder"
"""The lock itself, and a line that says who has it. The lock's file stays: where one is removed, two may have the lock."""

_held: dict[Path, FileLock] = {}


class Held(UserError):
    """Another process has the folder."""


def hold(folder: Path, *, timeout: float = 0) -> None:
    """Takes a folder for this process, until `release` or the process's end; a second time does nothing.

    Args:
        timeout: seconds to wait for another process; -1 waits for as long as it takes.

    Raises:
        Held: another process has it; the message says which.
        OSError: there is no such folder, or it cannot be written to.
    """
    from filelock import FileLock, Timeout

    place = folder.resolve(strict=True)
    if place in _held:
        return
    lock = FileLock(place / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise Held(
            f"{folder}: {_holder(place)} is at work in it; wait for its end, or choose another folder"
        ) from error
    except NotImplementedError:
        return  # Some network file systems have no locks, and make assets all the same.
    _held[place] = lock
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    with suppress(OSError):  # Who holds it is for messages only.
        text = f"process {os.getpid()} on {socket.gethostname()}, begun {since},"
        (place / HOLDER).write_text(text, encoding="utf-8")


def release(folder: Path) -> None:
    """Gives a folder back; does nothing where this process does not have it."""
    place = folder.resolve()
    lock = _held.pop(place, None)
    if lock is not None:
        with suppress(OSError):
            (place / HOLDER).unlink(missing_ok=True)
        lock.release()


def check_free(folder: Path) -> None:
    """Whether no other process has a folder.

    Raises:
        Held: one has; the message says which.
        OSError: the folder cannot be written to.
    """
    if folder.resolve() not in _held:
        hold(folder)
        release(folder)


def _holder(place: Path) -> str:
    try:
        return (place / HOLDER).read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"
