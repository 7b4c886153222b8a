"""Splats to files: PLY, .splat, glTF, turntable videos and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rfgs.errors import UserError
from rfgs.export.glb import write_glb
from rfgs.export.ply import read_ply, write_ply
from rfgs.export.splat import write_splat
from rfgs.splats import Splats

__all__ = ["SUFFIXES", "export", "read_ply", "write_glb", "write_ply", "write_splat"]

SUFFIXES = {
    ".ply": "splats, for every viewer",
    ".splat": "splats, small, for browsers",
    ".glb": "splats in glTF (KHR_gaussian_splatting)",
    ".mp4": "turntable video",
    ".png": "strip of eight views",
}


def export(splats: Splats, path: str | Path, *, comments: Sequence[str] = ()) -> None:
    """Writes `splats` in the format that the suffix of `path` names, with that format's defaults.

    Args:
        comments: lines for the header of a PLY; the other formats have no place for them.

    Raises:
        UserError: an unknown suffix, or as the format's own function.
    """
    # Pictures need a renderer, which takes long to import; files of splats do not.
    suffix = Path(path).suffix.lower()
    if suffix == ".ply":
        write_ply(splats, path, comments=comments)
    elif suffix == ".splat":
        write_splat(splats, path)
    elif suffix == ".glb":
        write_glb(splats, path)
    elif suffix == ".mp4":
        from rfgs.export.turntable import write_turntable

        write_turntable(splats, path)
    elif suffix == ".png":
        from rfgs.export.turntable import write_strip

        write_strip(splats, path)
    else:
        known = ", ".join(f"{name} ({what})" for name, what in SUFFIXES.items())
        raise UserError(f"{path}: suffix {suffix!r} is unknown; choose one of {known}")
