"""The phases of a start, each told in a line: what it does and how large it is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from rfgs.models import available, catalog, snapshot, weighing
from rfgs.models.places import expanded, is_folder
from rfgs.models.single_file import SingleFile
from rfgs.priors.text import TextSide

Say = Callable[[str], None]
"""Told, in a line, each phase, and whatever else somebody who waits should know."""


def quiet(message: str) -> None:
    """Tells nobody."""


def tell_download(source: str, say: Say, *, t5: bool, bare: Collection[str] = ()) -> None:
    """Says how much of a hub id is to be downloaded, if it is one and anything is.

    `bare`: parts whose weights are not, since a single file has them; nobody has weighed the others.
    """
    if is_folder(expanded(source)) or not snapshot.HUB_ID.fullmatch(source):
        return
    if snapshot.lacks(source, t5=t5, bare=bare):
        backend = next(
            (backend for backend in catalog.BACKENDS if backend.hub_id == source and not bare), None
        )
        begun = snapshot.cached(source)
        here = sum(file.stat().st_size for file in begun.rglob("*") if file.is_file()) if begun else 0
        size = max(0, available.download_size(backend, t5=t5) - here) if backend else 0
        say(f"downloading {source}" + (f", {gigabytes(size)}" if size else ""))


def tell_text(text: TextSide, source: str, say: Say, *, t5: bool, file: SingleFile | None = None) -> None:
    """Has a prior say when it reads its text encoders, and what they embed.

    `file`: a single file whose parts are taken in the place of those in the folder `source`.
    """
    names = weighing.parts(Path(source), t5=t5, file=file)
    parts = [part for part in names if part.startswith("text_encoder")]
    text.say = say
    text.reading = f"reading the text encoders, {gigabytes(weighing.size(Path(source), parts, file))}"


def tell_network(source: str, say: Say, *, file: SingleFile | None = None) -> None:
    """Says that the parts are read that are no text encoder; `file`: see `tell_text`."""
    names = weighing.parts(Path(source), file=file)
    parts = [part for part in names if not part.startswith("text_encoder")]
    say(f"reading the network, {gigabytes(weighing.size(Path(source), parts, file))}")


def gigabytes(size: float) -> str:
    """A size for people, such as "4.2 GB"."""
    return f"{size / 1e9:.1f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
