"""The phases of a start, each told in a line: what it does and how large it is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from rfgs.models import catalog, snapshot, weighing
from rfgs.models.single_file import SingleFile
from rfgs.priors.text import TextSide

Say = Callable[[str], None]
"""Told each phase, in a line."""


def quiet(message: str) -> None:
    """Tells nobody."""


def tell_download(source: str, say: Say, *, t5: bool, bare: Collection[str] = ()) -> None:
    """Says how much of a hub id is to be downloaded, if it is one and anything is; `bare`: see `layout.missing`."""
    if Path(source).expanduser().is_dir() or not snapshot.HUB_ID.fullmatch(source):
        return
    if snapshot.lacks(source, t5=t5, bare=bare):
        backend = next((backend for backend in catalog.BACKENDS if backend.hub_id == source), None)
        begun = snapshot.cached(source)
        here = sum(file.stat().st_size for file in begun.rglob("*") if file.is_file()) if begun else 0
        size = max(0, catalog.download_size(backend, t5=t5) - here) if backend and not bare else 0
        say(f"downloading {source}" + (f", {gigabytes(size)}" if size else ""))


def tell_text(text: TextSide, source: str, say: Say, *, t5: bool) -> None:
    """Has a prior say when it reads its text encoders, and what they embed."""
    parts = [part for part in weighing.parts(Path(source), t5=t5) if part.startswith("text_encoder")]
    text.say = say
    text.reading = f"reading the text encoders, {gigabytes(weighing.size(Path(source), parts))}"


def tell_network(source: str, say: Say, file: SingleFile | None = None) -> None:
    """Says that the parts are read that are no text encoder; `file` holds some of them in the place of the folder."""
    within = file.parts if file else ()
    parts = [
        part
        for part in weighing.parts(Path(source))
        if not part.startswith("text_encoder") and part not in within
    ]
    size = weighing.size(Path(source), parts) + (file.size if file else 0)
    say(f"reading the network, {gigabytes(size)}")


def gigabytes(size: float) -> str:
    """A size for people, such as "4.2 GB"."""
    return f"{size / 1e9:.1f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
