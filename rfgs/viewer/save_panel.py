"""The Save panel: files of the splats as they are now, sent to the browser that asked."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import viser

from rfgs.errors import UserError
from rfgs.export import FORMATS, export
from rfgs.viewer.background import Report
from rfgs.viewer.stage import Stage, snapshot
from rfgs.viewer.widgets import guarded_event, small

if TYPE_CHECKING:
    from rfgs.splats import Splats


class SavePanel:
    """Made inside the container that will hold it.

    Args:
        gui: the server's.
        stage: whose splats are saved.
        name: the files' stem, such as "a-red-cube".
        of_run: whether there is a run, which goes on meanwhile.
        comments: lines that the files are to have, such as "prompt: a fox".
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        stage: Stage,
        report: Report,
        name: str,
        *,
        of_run: bool,
        comments: Sequence[str] = (),
    ) -> None:
        self._stage, self._name, self._comments = stage, name, comments
        self._one_at_a_time = threading.Lock()  # Each takes memory, and a thread that other buttons wait for.
        self._note = gui.add_html(_note("Files of what is shown now." + " The run goes on." * of_run))
        for known in FORMATS:
            if known.button:
                label, icon, hint = known.button
                button = gui.add_button(label, icon=getattr(viser.Icon, icon), hint=hint)
                button.on_click(guarded_event(report, label, self._download(known.suffix)))
        with gui.add_folder("Other formats", expand_by_default=False):
            for known in FORMATS:
                if not known.button:
                    button = gui.add_button(known.suffix, hint=known.summary, color="gray")
                    button.on_click(guarded_event(report, known.suffix, self._download(known.suffix)))

    def end(self) -> None:
        """Says that there is no run any more, and what is saved is what it came to."""
        self._note.content = _note("Files of what the run has come to.")

    def _download(self, suffix: str) -> Callable[[viser.GuiEvent], None]:
        def clicked(event: viser.GuiEvent) -> None:
            splats = self._stage.splats()
            if event.client is None or splats is None:
                return
            name = self._name + suffix
            if not self._one_at_a_time.acquire(blocking=False):
                raise UserError(f"{name}: another file is being prepared; try again when it is there")
            note = event.client.add_notification(
                f"Preparing {name}", "", loading=True, with_close_button=False
            )
            try:
                content = file_of(
                    snapshot(splats), suffix, self._stage, title=self._name, comments=self._comments
                )
                event.client.send_file_download(name, content, save_immediately=True)
            finally:
                self._one_at_a_time.release()
                note.remove()

        return clicked


def _note(words: str) -> str:
    return small(f"{words} This browser downloads them.")


def file_of(splats: Splats, suffix: str, stage: Stage, *, title: str, comments: Sequence[str] = ()) -> bytes:
    """The bytes of a file of `splats`, of any suffix that `rfgs.export.export` knows."""
    if suffix == ".html":  # With the background and the sizes that are looked at.
        from rfgs.viewer.share import share_page

        return share_page(splats, title=title, look=stage.look, comments=comments).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"splats{suffix}"
        export(splats, path, comments=comments)
        return path.read_bytes()
