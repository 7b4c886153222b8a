"""Splats to files and back: PLY, .spz, .sog, .splat, glTF, turntable videos, pictures, pages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfgs.export.comments import comments_of
from rfgs.export.formats import FORMATS, Format, format_of, source_of

if TYPE_CHECKING:
    from rfgs.export.glb import write_glb
    from rfgs.export.ply import read_ply, write_ply
    from rfgs.export.splat import write_splat
    from rfgs.splats import Splats

__all__ = [
    "FORMATS",
    "Format",
    "comments_of",
    "export",
    "format_of",
    "read",
    "read_ply",
    "write_glb",
    "write_ply",
    "write_splat",
]


def export(
    splats: Splats,
    path: str | Path,
    *,
    comments: Sequence[str] = (),
    sh_degree: int | None = None,
    up: str | None = None,
    normals: bool = False,
) -> None:
    """Writes `splats` in the format that the end of `path` names, with that format's defaults.

    Args:
        comments: lines such as "prompt: a fox", for the formats that have a place for them.
        sh_degree: of the spherical harmonics, 0 to 3: padded with zeros, or cut. None keeps it.
        up, normals: for a .ply, see `rfgs.export.ply.write_ply`.

    Raises:
        UserError: an unknown suffix, an option that the format has no place for, or as the format's own function.
    """
    if sh_degree is not None:
        splats = splats.with_sh_degree(sh_degree)
    format_of(path).write(splats, path, comments=tuple(comments), up=up, normals=normals)


def read(path: str | Path) -> Splats:
    """Reads splats from a file, in the format that the end of its name names, or from the folder of a run.

    Raises:
        UserError: there is none, its format is unknown or is not read, or as the format's own function.
    """
    path = source_of(path)
    return format_of(path).read(path)


_MODULES = {"read_ply": "ply", "write_ply": "ply", "write_glb": "glb", "write_splat": "splat"}


def __getattr__(name: str) -> Any:
    """The formats' own functions, imported when they are asked for: with them comes torch, which their list does without."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
