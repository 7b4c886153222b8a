"""`rfgs export`: a run or a file of splats into another format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rfgs.export.formats import listed


@dataclass
class Export:
    """Convert a run's asset or a file of splats; the end of the new file's name says the format.

    What the file says of itself (prompt, seed, model) goes along where the new format has a place for it.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IN")]
    """The folder of a run, or a file of splats (.ply, .spz, .sog, .splat, .glb)."""
    target: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT", help=f"The file to write: {listed()}.")
    ]
    sh_degree: Annotated[Literal[0, 1, 2, 3] | None, tyro.conf.arg(metavar="0-3")] = None
    """Degree of the spherical harmonics, padded with zeros or cut. Some strict importers (Unity's) want 3, and normals."""
    normals: bool = False
    """Write normals into a .ply, which are zero."""
    up: Annotated[Literal["-y", "+y", "+z"] | None, tyro.conf.arg(metavar="AXIS")] = None
    """Axis that points up in a .ply: -y, as splat viewers expect it, or +y or +z for programs that take it as it is."""
    overwrite: bool = False
    """Replace the target if it exists."""

    def run(self) -> None:
        """Reads, converts, writes."""
        from . import checks

        source = checks.check_source(self.source)
        checks.check_target(self.target, overwrite=self.overwrite)
        from rfgs.export import comments_of, export, format_of, read

        format_of(self.target).taken(self.target, up=self.up, normals=self.normals)
        export(
            read(source),
            self.target,
            comments=comments_of(source),
            sh_degree=self.sh_degree,
            up=self.up,
            normals=self.normals,
        )
        print(self.target)
