"""`rfgs export`: a file of splats into another format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rfgs.export.formats import listed


@dataclass
class Export:
    """Convert a file of splats; the suffix of the new file names the format."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IN")]
    """The file of splats to read (.ply)."""
    target: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT", help=f"The file to write: {listed()}.")
    ]
    overwrite: bool = False
    """Replace the target if it exists."""

    def run(self) -> None:
        """Reads, converts, writes."""
        from . import checks

        checks.check_source_file(self.source)
        checks.check_target(self.target, overwrite=self.overwrite)
        from rfgs.export import export, read_ply

        export(read_ply(self.source), self.target)
        print(self.target)
