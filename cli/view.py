"""`rfgs view`: look at files of splats and at runs, in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .flags import Text, default


@dataclass
class View:
    """Look at files of splats, or at runs over time, in the browser."""

    paths: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PATH", help_behavior_hint="")
    ] = ()
    """Files of splats (.ply, .spz, .sog, .splat, .glb), or folders of runs; several are shown side by side."""
    open: bool = True
    """Open the page in a browser, if this is a terminal on a machine with a display."""
    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8080
    """Port of the page; the next free one is taken. 0 lets the system choose."""
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Network interface of the page; the default can be reached from this machine only, 0.0.0.0 from everywhere, by whoever
    has the token that is printed in its address."""
    origin: Annotated[Text, default("no forwarder")] = None
    """Where a forwarder (GitHub Codespaces, nginx) shows the page, such as https://name.example; it is let in too."""
    server_render: bool = False
    """Open with pictures that this machine renders; browsers without a GPU get them by themselves of many splats."""

    def run(self) -> None:
        """Serves the page until Ctrl-C."""
        from . import checks

        checks.check_port(self.port)
        checks.check_exhibits(self.paths)
        from rfgs.viewer import view

        from .browser import open_page

        view(
            self.paths,
            host=self.host,
            port=self.port,
            server_render=self.server_render,
            origin=self.origin,
            on_open=open_page if self.open else lambda url: None,
        )
