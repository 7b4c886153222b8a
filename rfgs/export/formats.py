"""The formats of files: one list, which `rfgs export`, `rfgs view`, the page's Save panel and `rfgs.export` read.

A format is one module with functions that write and read it, and one entry here. No torch: a wrong suffix is told in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfgs.errors import UserError

if TYPE_CHECKING:
    from rfgs.splats import Splats


@dataclass(frozen=True)
class Format:
    """A format of files."""

    suffix: str
    """With its dot, in lower case; ".compressed.ply" goes before ".ply" where both fit."""
    summary: str
    """What it holds and who it is for, as a user reads it in lists."""
    writer: str
    """Module and function, "package.module:function". It is imported when it is called, as `function(splats, path)`."""
    reader: str = ""
    """The same for the function that reads it, called as `function(path)`; without it such files are only written."""
    options: tuple[str, ...] = ()
    """Keywords that the writer takes: "comments" for lines such as a prompt, "up" and "normals" as `rfgs.export.ply` has them."""
    button: tuple[str, str, str] | None = None
    """For the page's Save panel: label, name of an icon in `viser.Icon`, hint. Without it, it is one of the others there."""

    def write(self, splats: Splats, path: str | Path, **options: Any) -> None:
        """Writes a file; see `taken` and the format's own function for what is raised."""
        _function(self.writer)(splats, path, **self.taken(path, **options))

    def taken(self, path: str | Path, **options: Any) -> dict[str, Any]:
        """Those of `options` that are given and that the writer takes; comments are left out where there is no place for them.

        Raises:
            UserError: another one is given.
        """
        given = {name: value for name, value in options.items() if value not in (None, False, ())}
        if "comments" not in self.options:
            given.pop("comments", None)
        for name in given:
            if name not in self.options:
                able = ", ".join(known.suffix for known in FORMATS if name in known.options)
                raise UserError(
                    f"{path}: {name!r} is for {able}, and {self.suffix} has no such choice; leave it out"
                )
        return given

    def read(self, path: str | Path) -> Splats:
        """Reads a file; see the format's own function for what it raises."""
        return _function(self.reader)(path)


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


FORMATS = [
    Format(
        ".ply",
        "splats, for every viewer",
        "rfgs.export.ply:write_ply",
        "rfgs.export.ply:read_ply",
        options=("comments", "up", "normals"),
        button=("Splats (.ply)", "GRAIN", "For SuperSplat, Blender, Unity, `rfgs view` and others"),
    ),
    Format(
        ".compressed.ply",
        "splats, a third of it, for SuperSplat and PlayCanvas",
        "rfgs.export.compressed_ply:write_compressed_ply",
        "rfgs.export.ply:read_ply",
        options=("comments",),
    ),
    Format(
        ".splat",
        "splats, small, for browsers",
        "rfgs.export.splat:write_splat",
        "rfgs.export.splat:read_splat",
    ),
    Format(
        ".spz",
        "splats, smaller, for Spark and phones",
        "rfgs.export.spz:write_spz",
        "rfgs.export.spz:read_spz",
    ),
    Format(
        ".sog",
        "splats, smaller, for PlayCanvas and Spark",
        "rfgs.export.sog:write_sog",
        "rfgs.export.sog:read_sog",
        options=("comments",),
    ),
    Format(
        ".glb",
        "splats in glTF (KHR_gaussian_splatting)",
        "rfgs.export.glb:write_glb",
        "rfgs.export.glb:read_glb",
        options=("comments",),
    ),
    Format(".obj", "mesh, for every modeler", "rfgs.export.mesh_files:write_obj", options=("comments",)),
    Format(".mesh.ply", "mesh", "rfgs.export.mesh_files:write_mesh_ply", options=("comments",)),
    Format(
        ".mesh.glb",
        "mesh in glTF, for engines and the web",
        "rfgs.export.mesh_files:write_mesh_glb",
        options=("comments",),
    ),
    Format(
        ".mp4",
        "turntable video",
        "rfgs.export.turntable:write_turntable",
        options=("comments",),
        button=("Turntable (.mp4)", "MOVIE", "A video of one turn; takes a while without a GPU"),
    ),
    Format(".gif", "turntable for chats", "rfgs.export.gif:write_gif", options=("comments",)),
    Format(".png", "strip of eight views", "rfgs.export.turntable:write_strip", options=("comments",)),
    # It holds the page's own program, and so the viewer writes it.
    Format(
        ".html",
        "web page that works from disk",
        "rfgs.viewer.share:write_page",
        options=("comments",),
        button=("Web page (.html)", "WORLD_WWW", "One file that shows the splats in any browser"),
    ),
]
"""A format of your own is written by every command once it is put in here."""


def format_of(path: str | Path) -> Format:
    """The format that the end of a file's name names, in upper or lower case.

    Raises:
        UserError: it is none of them.
    """
    name = Path(path).name.lower()
    fitting = [known for known in FORMATS if name.endswith(known.suffix)]
    if not fitting:
        raise UserError(f"{path}: suffix {Path(name).suffix!r} is unknown; choose one of {listed()}")
    return max(fitting, key=lambda known: len(known.suffix))


def source_of(path: str | Path) -> Path:
    """The file of splats that a path names: itself, or the splats.ply in the folder of a run.

    Raises:
        UserError: there is none, or it is of a format that is not read.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "splats.ply").is_file():
            raise UserError(
                f"{path}: holds no splats.ply; give a file of splats (.ply) or the folder of a run"
            )
        return path / "splats.ply"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file of splats (.ply) or the folder of a run")
    name = path.name.lower()
    readable = [known.suffix for known in FORMATS if known.reader]
    if not name.endswith(tuple(readable)) or not format_of(path).reader:
        raise UserError(
            f"{path}: cannot be read as splats by its name; those that can end with {', '.join(readable)}"
        )
    return path


def listed() -> str:
    """All formats in one line."""
    return ", ".join(f"{known.suffix} ({known.summary})" for known in FORMATS)
