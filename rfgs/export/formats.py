"""The formats that splats can be written in: one list, which `rfgs export`, the page's Save panel and `rfgs.export` read.

A format is one module with a function that writes it, and one entry here. No torch: a wrong suffix is told in a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rfgs.errors import UserError

if TYPE_CHECKING:
    from rfgs.splats import Splats


@dataclass(frozen=True)
class Format:
    """A format of files."""

    suffix: str
    """With its dot, in lower case."""
    summary: str
    """What it holds and who it is for, as a user reads it in lists."""
    writer: str
    """Module and function, "package.module:function". It is imported when it is called, as `function(splats, path)`."""
    comments: bool = False
    """Whether the function takes `comments`, lines for the file's header."""
    button: tuple[str, str, str] | None = None
    """For the page's Save panel: label, name of an icon in `viser.Icon`, hint. Without it there is no button."""

    def write(self, splats: Splats, path: str | Path, comments: Sequence[str] = ()) -> None:
        """Writes a file; see the format's own function for what it raises."""
        module, _, name = self.writer.partition(":")
        options = {"comments": comments} if self.comments else {}
        getattr(import_module(module), name)(splats, path, **options)


FORMATS = [
    Format(
        ".ply",
        "splats, for every viewer",
        "rfgs.export.ply:write_ply",
        comments=True,
        button=("Splats (.ply)", "GRAIN", "For SuperSplat, Blender, Unity, `rfgs view` and others"),
    ),
    Format(".splat", "splats, small, for browsers", "rfgs.export.splat:write_splat"),
    Format(".glb", "splats in glTF (KHR_gaussian_splatting)", "rfgs.export.glb:write_glb"),
    Format(
        ".mp4",
        "turntable video",
        "rfgs.export.turntable:write_turntable",
        button=("Turntable (.mp4)", "MOVIE", "A video of one turn; takes a while without a GPU"),
    ),
    Format(".png", "strip of eight views", "rfgs.export.turntable:write_strip"),
]
"""A format of your own is written by every command once it is put in here."""


def format_of(path: str | Path) -> Format:
    """The format that the suffix of `path` names, in upper or lower case.

    Raises:
        UserError: none has it, or it is the compressed PLY's, which is read and not written.
    """
    if Path(path).name.lower().endswith(".compressed.ply"):
        raise UserError(f"{path}: compressed PLY can be read but not written; end the name with .ply alone")
    suffix = Path(path).suffix.lower()
    for known in FORMATS:
        if known.suffix == suffix:
            return known
    raise UserError(f"{path}: suffix {suffix!r} is unknown; choose one of {listed()}")


def listed() -> str:
    """All formats in one line."""
    return ", ".join(f"{known.suffix} ({known.summary})" for known in FORMATS)
