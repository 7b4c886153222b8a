"""`Results`: the files that a run came to, in its folder or, where that does not take them, in the system's temporary one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rfgs.errors import Unwritten
from rfgs.export.writing import reason


class Results:
    """Writes files, and remembers where they are. After hours of work a full disk is no reason to lose its outcome.

    Args:
        folder: where they belong.
    """

    def __init__(self, folder: Path) -> None:
        self.paths: list[Path] = []
        """What was written, in order."""
        self.lost: list[str] = []
        """Names of what could not be written anywhere."""
        self._folder = folder
        self._elsewhere: Path | None = None
        self.problem = ""
        """Why the folder does not take them."""

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Has `write` write a file, which raises `Unwritten` where it cannot be."""
        try:
            write(self._folder / name)
            self.paths.append(self._folder / name)
            return
        except Unwritten as error:
            self.problem = self.problem or error.reason
        try:
            place = self._other_folder()
            write(place / name)
            self.paths.append(place / name)
        except Unwritten:
            self.lost.append(name)

    def line(self) -> str:
        """Where the files are that are not in their folder; "" if all are."""
        there = [path.name for path in self.paths if path.parent != self._folder]
        parts = []
        if self._elsewhere is not None and not there:
            with suppress(OSError):
                self._elsewhere.rmdir()
        if there:
            parts.append(f"{_listed(there)} {'is' if len(there) == 1 else 'are'} in {self._elsewhere}")
        if self.lost:
            parts.append(
                f"{_listed(self.lost)} could not be written {'there' if there else 'elsewhere'} either"
            )
        return f"{self._folder} takes no more ({self.problem}): {'; '.join(parts)}" if parts else ""

    def _other_folder(self) -> Path:
        if self._elsewhere is None:
            try:
                name = self._folder.resolve().name[:60]
                self._elsewhere = Path(tempfile.mkdtemp(prefix=f"rfgs-{name}-"))
            except OSError as error:
                raise Unwritten("the system's temporary folder", reason(error)) from error
        return self._elsewhere


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
