"""Splats to files: PLY, .splat, glTF, turntable videos and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfgs.export.formats import FORMATS, Format, format_of

if TYPE_CHECKING:
    from rfgs.export.glb import write_glb
    from rfgs.export.ply import read_ply, write_ply
    from rfgs.export.splat import write_splat
    from rfgs.splats import Splats

__all__ = ["FORMATS", "Format", "export", "format_of", "read_ply", "write_glb", "write_ply", "write_splat"]


def export(splats: Splats, path: str | Path, *, comments: Sequence[str] = ()) -> None:
    """Writes `splats` in the format that the suffix of `path` names, with that format's defaults.

    Args:
        comments: lines for the header of a PLY; the other formats have no place for them.

    Raises:
        UserError: an unknown suffix, or as the format's own function.
    """
    format_of(path).write(splats, path, comments)


_MODULES = {"read_ply": "ply", "write_ply": "ply", "write_glb": "glb", "write_splat": "splat"}


def __getattr__(name: str) -> Any:
    """The formats' own functions, imported when they are asked for: with them comes torch, which their list does without."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
