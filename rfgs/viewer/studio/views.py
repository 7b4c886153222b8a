"""The pages of files that are open: of one run, or of several side by side. Who asks for the same sees the same page."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from rfgs.runs import folders
from rfgs.viewer.exhibits import FileViewer, view_files

MOST_VIEWS = 8
"""Open at a time; one that nobody looks at makes room, or else the one that was asked for longest ago."""

MOST_DRAWN_SLOWLY = 2_000_000
"""Bytes of PLY, some 30,000 splats, which software draws in four seconds."""

Shown = tuple[list[tuple[Path, int, int]], bool]
"""Folders of runs, when their assets were written and how many bytes they have; and whether they are drawn here."""


class Views:
    """Those of one studio."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Shown, FileViewer]] = {}
        """By key, what is shown, and the page; what was asked for last comes last."""
        # Opening takes memory and time, and one after the other is soon enough.
        self._lock = threading.Lock()

    def open(self, runs: Sequence[Path], *, slow: bool = False) -> str:
        """The key of a page that shows the folders of runs as they are now.

        Args:
            slow: whether the browser has no GPU; it is sent pictures of what it would need half a minute to draw.

        Raises:
            UserError: one has nothing to show.
        """
        assets = [(folder, *_asset(folder)) for folder in runs]
        drawn_here = slow and sum(size for _, _, size in assets) > MOST_DRAWN_SLOWLY
        what = assets, drawn_here
        with self._lock:
            key = next((key for key, (shown, _) in self._open.items() if shown == what), None)
            if key is None:
                view = view_files(runs, port=0, server_render=drawn_here)
                while len(self._open) >= MOST_VIEWS:
                    unseen = [key for key, (_, view) in self._open.items() if not view.watched]
                    self._open.pop([*unseen, *self._open][0])[1].close()
                self._open[key := f"view-{secrets.token_hex(8)}"] = what, view
            else:
                self._open[key] = self._open.pop(key)
        return key

    def url(self, key: str) -> str | None:
        """The address of a page; None if it is not open any more."""
        view = self._open.get(key)
        return None if view is None else view[1].url

    def keys(self) -> list[str]:
        """Of all that are open."""
        return list(self._open)

    def close(self) -> None:
        """Closes all."""
        for _, view in self._open.values():
            view.close()


def _asset(folder: Path) -> tuple[int, int]:
    """When the asset of a run was written, nanoseconds, and its bytes; 0 where there is none."""
    try:
        said = (folder / folders.SPLATS).stat()
    except OSError:
        return 0, 0
    return said.st_mtime_ns, said.st_size
