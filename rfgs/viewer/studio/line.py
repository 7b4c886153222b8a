"""Who waits, and who is at work: one run after another, each a process of its own, so that its end ends nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TextIO

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.runs import forks
from rfgs.runs.folders import PAUSED, RECORD, slug
from rfgs.runs.forks import Fork
from rfgs.runs.plain import of_plain
from rfgs.viewer.studio import left
from rfgs.viewer.studio.left import Left
from rfgs.viewer.studio.wishes import Wish
from rfgs.viewer.studio.work import STEPS, VIEWER, Ended, Work, last_words, page_of

WAITING = ".waiting.json"
"""In the folder of the runs: what waits, so that a studio that is started again knows."""
MOST_WAITING = 100


class Line:
    """Starts the next run when the one before has ended, from `start` to `close`.

    Args:
        place: folder of the runs' folders.
        command: what runs `rfgs`, to which "generate" and its flags are added.
        forked: a function that does what it does, with these words, in a fork (`rfgs.runs.forks`), which starts sooner.
    """

    def __init__(
        self, place: Path, command: Sequence[str], forked: Callable[[list[str]], None] | None = None
    ) -> None:
        self._place, self._command, self._forked = place, list(command), forked
        if forked:
            forks.prepare()
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, Wish]] = []
        self._work: Work | None = None
        self._ended: deque[Ended] = deque(maxlen=50)
        self._number = 0
        self._closing = False
        self._thread = threading.Thread(target=self._go, name="rfgs-studio-line", daemon=True)

    def start(self, taken: Callable[[Mapping[str, Any]], Wish]) -> None:
        """Takes up who was at work and what waited when the studio before this one ended, as far as it is still `taken`."""
        found = left.found(self._place)
        if found is not None:
            wish, process, address = found
            with suppress(UserError):
                self._number += 1
                self._work = Work(
                    self._number,
                    _wish_of(wish),
                    process.folder,
                    process,
                    None,
                    page_of(address),
                    steps=process.steps(),
                )
        try:
            noted = json.loads((self._place / WAITING).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            noted = []
        for one in noted[:MOST_WAITING] if isinstance(noted, list) else []:
            with suppress(UserError):
                self.add(_wish_again(one, taken))
        self._thread.start()

    def add(self, wish: Wish) -> int:
        """Lets a wish wait for its turn, and returns its number; one for a new run without a folder's name is given one.

        Raises:
            UserError: too many wait already, or its folder is being worked in.
        """
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise UserError(f"{MOST_WAITING} prompts wait already; take one away, or try again later")
            if not wish.name:
                wish = Wish(**{**wish.as_dict(), "name": self._free_name(wish)})
            elif wish.name in self._names():
                raise UserError("That run is already running or waiting")
            self._number += 1
            self._waiting.append((self._number, wish))
            self._ended = deque((one for one in self._ended if one.wish.name != wish.name), maxlen=50)
            self._note()
            self._changed.notify_all()
            return self._number

    def cancel(self, number: int) -> None:
        """Takes away what waits, or the news of what has ended."""
        with self._changed:
            self._waiting = [one for one in self._waiting if one[0] != number]
            self._ended = deque((one for one in self._ended if one.number != number), maxlen=50)
            self._note()

    def stop(self, number: int, knowing: int) -> None:
        """Asks the run at work to end after its step and to write what there is; again, to leave a checkpoint only.

        Args:
            knowing: how often it was asked before, as far as who asks can tell: two who press the button at once mean the same.
        """
        with self._changed:
            work = self._work
            if (
                work is None
                or work.number != number
                or work.stops != knowing
                or work.process.poll() is not None
            ):
                return
            work.stops += 1
            work.process.send_signal(signal.SIGINT)

    def go_on(self, number: int) -> None:
        """Lets the run at work go on, if it is paused."""
        with self._changed:
            work = self._work
            if work is not None and work.number == number:
                with suppress(OSError):
                    (work.folder / PAUSED).unlink(missing_ok=True)

    @property
    def waiting(self) -> list[tuple[int, Wish]]:
        with self._changed:
            return list(self._waiting)

    @property
    def work(self) -> Work | None:
        return self._work

    @property
    def ended(self) -> list[Ended]:
        """Those that came to no good end, the newest last."""
        with self._changed:
            return list(self._ended)

    def is_at_work_in(self, folder: Path) -> bool:
        """Whether the run at work is this folder's."""
        work = self._work
        return work is not None and work.folder == folder

    def has(self, name: str) -> bool:
        """Whether a run of this name is at work or waits."""
        with self._changed:
            return name in self._names()

    def starts_from(self, name: str) -> bool:
        """Whether one that waits, or is at work and may not have read it yet, starts from the run of this name."""
        with self._changed:
            at_work = [] if self._work is None else [self._work.wish]
            return any(wish.start == name for wish in [*at_work, *(wish for _, wish in self._waiting)])

    def close(self, patience: float = 60.0) -> None:
        """Starts nothing more, and lets the run at work write what there is; after `patience` seconds it is left alone.

        What waits is noted for the next studio.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if self._work is not None and self._work.process.poll() is None:
                self._work.process.send_signal(signal.SIGINT)
        if self._thread.is_alive():
            self._thread.join(patience)

    def _go(self) -> None:
        if self._work is not None:
            self._wait_for(self._work)
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                number, wish = self._waiting.pop(0)
                folder = self._place / wish.name
                try:
                    work = self._work = Work(number, wish, folder, *self._started(wish, folder))
                except OSError as error:
                    self._ended.append(Ended(number, wish, f"It could not be started: {error}", False))
                    continue
                finally:
                    self._note()
            left.note(self._place, wish.as_dict(), work.process.pid, None)
            self._listen(work)
            self._wait_for(work)

    def _wait_for(self, work: Work) -> None:
        """Waits for the end of the run at work, and keeps what is to be said of that."""
        if isinstance(work.process, Left):
            while work.process.poll() is None and not self._closing:
                work.steps = work.process.steps()
                time.sleep(left.EVERY)
        code = work.process.wait()
        with self._changed:
            self._work = None
            left.forget(self._place)
            words = last_words(code, work.lines)
            if words:
                self._ended.append(Ended(work.number, work.wish, words, (work.folder / RECORD).is_file()))

    def _started(self, wish: Wish, folder: Path) -> tuple[subprocess.Popen[bytes] | Fork, TextIO]:
        arguments = ["generate", *wish.flags(os.fspath(folder))]
        reads, writes = os.pipe()
        output = open(reads, encoding="utf-8", errors="replace")
        try:
            if self._forked:
                return Fork(self._forked, [arguments], output=writes), output
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=writes,
                stderr=writes,
                # In a session of its own, a Ctrl-C for the studio is the studio's to pass on.
                start_new_session=True,
            )
            return process, output
        except BaseException:
            output.close()
            raise
        finally:
            os.close(writes)

    def _listen(self, work: Work) -> None:
        assert work.output is not None
        with work.output as lines:
            for (
                line
            ) in lines:  # Each state of the progress bar, which ends with a carriage return, is one too.
                page, steps = VIEWER.search(line), STEPS.search(line)
                if page and work.address is None:
                    work.address = page.group(1)
                    left.note(self._place, work.wish.as_dict(), work.process.pid, work.address)
                elif steps:
                    work.steps = int(steps.group(1)), int(steps.group(2))
                elif line.strip():
                    work.lines.append(line.strip()[:500])

    def _free_name(self, wish: Wish) -> str:
        stem, taken = f"{slug(wish.prompt)}-{wish.seed}", self._names()
        name, number = stem, 2
        while name in taken or (self._place / name).exists():
            name, number = f"{stem}-{number}", number + 1
        return name

    def _names(self) -> set[str]:
        at_work = set() if self._work is None else {self._work.wish.name}
        return at_work | {wish.name for _, wish in self._waiting}

    def _note(self) -> None:
        with suppress(OSError, UserError):  # Who waits is not worth an error.
            if self._waiting:
                noted = json.dumps([wish.as_dict() for _, wish in self._waiting], indent=2)
                with atomic(self._place / WAITING) as path:
                    path.write_text(noted + "\n", encoding="utf-8")
            else:
                (self._place / WAITING).unlink(missing_ok=True)


def _wish_of(noted: Mapping[str, Any]) -> Wish:
    known = {one.name for one in fields(Wish)}
    return of_plain(Wish, {name: value for name, value in noted.items() if name in known})


def _wish_again(noted: Any, taken: Callable[[Mapping[str, Any]], Wish]) -> Wish:
    """A wish that a file states."""
    if not isinstance(noted, dict):
        raise UserError("no wish")
    wish = _wish_of(noted)
    for name in (wish.name,) * wish.resumes + (wish.start,) * bool(wish.start):
        if Path(name).name != name or name in ("", ".", ".."):
            raise UserError("no name of a folder")
    return wish if wish.resumes else replace(taken(noted), start=wish.start)
