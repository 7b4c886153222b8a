"""`rfgs view`: look at splat files in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class View:
    """Look at splat files in the browser."""

    files: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE", help_behavior_hint="")
    ] = ()
    """Files of splats (.ply); several are shown side by side."""
    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8080
    """Port of the page; the next free one is taken. 0 lets the system choose."""

    def run(self) -> None:
        """Serves the page until Ctrl-C."""
        from rfgs import preflight

        preflight.check_port(self.port)
        preflight.check_files(self.files)
        from rfgs.viewer import view

        view(self.files, port=self.port)
