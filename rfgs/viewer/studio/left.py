"""A run whose studio was ended from outside: it goes on without one, and the next studio takes it up, live page and all.

A studio notes who is at work, and where that one's page is; whether it still is, the lock on its folder says.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.runs import folders, holding

AT_WORK = ".at-work.json"
"""In the folder of the runs. It has the token of a run's page, so that only its owner may read it."""
EVERY = 1.0
"""Seconds between two looks at whether it is still at work."""
HOLDER = re.compile(r"process (\d+) on (\S+),")


class Left:
    """The process of such a run, in the place of a `subprocess.Popen`: it is nobody's child any more."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder, self.pid = folder, pid

    def poll(self) -> int | None:
        """None while it is at work; how it ended, nobody was told, and 0 stands for that."""
        try:
            holding.check_free(self.folder)
        except holding.Held:
            return None
        except OSError:
            pass  # Its folder is gone.
        return 0

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(EVERY)
        return 0

    def send_signal(self, number: signal.Signals) -> None:
        """Tells the process, if it still is the one that has the folder: numbers of processes are used again."""
        if self.poll() is None and _holder(self.folder) == self.pid:
            with suppress(OSError):
                os.kill(self.pid, number)

    def steps(self) -> tuple[int, int] | None:
        """How many it had done at its last checkpoint, and of how many."""
        with suppress(UserError):
            record = folders.read_record(self.folder)
            done, config = record.get("steps_done"), record.get("config")
            total = config.get("steps") if isinstance(config, dict) else None
            if isinstance(done, int) and isinstance(total, int):
                return done, total
        return None


def note(place: Path, wish: Mapping[str, Any], pid: int, address: str | None) -> None:
    """Notes who is at work, by the wish for it, its process, and the address of its page once that is known."""
    with suppress(OSError, UserError), atomic(place / AT_WORK) as path:
        path.touch(mode=0o600)
        path.write_text(json.dumps({"wish": dict(wish), "pid": pid, "address": address}), encoding="utf-8")


def forget(place: Path) -> None:
    """Nobody is at work."""
    with suppress(OSError):
        (place / AT_WORK).unlink(missing_ok=True)


def found(place: Path) -> tuple[Mapping[str, Any], Left, str | None] | None:
    """The wish, the process and the page's address of a run that another studio has left at work; None where there is none."""
    try:
        noted = json.loads((place / AT_WORK).read_text(encoding="utf-8"))
        wish, pid, address = noted["wish"], noted["pid"], noted["address"]
        name = wish["name"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
        return None
    left = Left(place / name, pid)
    if not isinstance(pid, int) or _holder(left.folder) != pid or left.poll() is not None:
        return None
    return wish, left, address if isinstance(address, str) else None


def _holder(folder: Path) -> int | None:
    """The process of this machine that says to have a folder."""
    with suppress(OSError):
        said = HOLDER.match((folder / holding.HOLDER).read_text(encoding="utf-8", errors="replace"))
        if said and said.group(2) == socket.gethostname():
            return int(said.group(1))
    return None
