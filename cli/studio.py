"""`rfgs studio`: a page from a prompt to an object, for who does without a terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .flags import Text, default

COMMAND = [sys.executable, "-c", "from rfgs.cli.main import main; main()"]
"""What runs `rfgs` with this very Python, wherever its script is."""


def rfgs(arguments: list[str]) -> None:
    """The same in this process, which is a fork."""
    from .main import main

    sys.argv = ["rfgs", *arguments]
    main()


@dataclass
class Studio:
    """Make, compare and export objects on a page in the browser, without a terminal.

    Prompts wait in a line, and each run is a process of its own with a folder of its own, as `rfgs generate` makes it. The
    browser may be closed at any time. Ctrl-C stops the run at work, which writes what there is; `rfgs studio` finds all runs
    again, and what waited.
    """

    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder of the runs' folders: what is in it is shown, and new runs come into it."""
    open: bool = True
    """Open the page in a browser, if this is a terminal on a machine with a display."""
    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8080
    """Port of the page, the only one that has to be reached; the next free one is taken. 0 lets the system choose."""
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Network interface of the page; the default can be reached from this machine only, 0.0.0.0 from everywhere, by whoever
    has the token that is printed in its address."""
    origin: Annotated[Text, default("no forwarder")] = None
    """Where a forwarder (GitHub Codespaces, nginx) shows the page, such as https://name.example; it is let in too."""

    def run(self) -> None:
        """Serves the page until Ctrl-C."""
        from . import checks

        checks.check_port(self.port)
        from rfgs.runs.forks import ABLE
        from rfgs.viewer.studio import Studio as Page

        from .browser import open_page

        with Page(
            self.output,
            COMMAND,
            forked=rfgs if ABLE else None,
            host=self.host,
            port=self.port,
            origin=self.origin,
        ) as page:
            print(f"studio: {page.url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
            if self.open:
                open_page(page.url)
            page.wait()
            print("studio: a run that is at work writes what there is", file=sys.stderr, flush=True)
