"""What every page of ours has: a server, a stage, pictures, a turntable, and reports instead of failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import viser

from rfgs.viewer.aim import Aim, Fitting, open_at
from rfgs.viewer.background import Background, describe
from rfgs.viewer.same_origin import as_origin
from rfgs.viewer.server import deliver, new_token, open_server, server_url, stop_server
from rfgs.viewer.sheet import SHEET
from rfgs.viewer.software import MOST_SPLATS
from rfgs.viewer.stage import Stage
from rfgs.viewer.stills import Pictures
from rfgs.viewer.turn import Turntable

Owner = TypeVar("Owner", bound="Served")
PATIENCE = 5.0
"""Seconds that the end of a page waits for browsers."""
MOST_PROBLEMS = 100
"""What goes wrong after so many is told nowhere."""


class Page:
    """Serves from its making until `close`.

    Args:
        host, port, title: as for `open_server`.
        origin: under which a forwarder shows the page, such as "https://name.example"; None if there is none.

    Raises:
        UserError: an address that cannot be listened on.
    """

    def __init__(self, host: str, port: int, *, title: str, origin: str | None = None) -> None:
        self.problems: list[str] = []
        """What went wrong in the page, newest last. A run has nothing to do about it."""
        self.on_problem: Callable[[str], None] = lambda line: None
        """Told of each, to show it."""
        self._closed = threading.Event()
        self._token, self._origin = new_token(), None if origin is None else as_origin(origin)
        self._in_software = self._spared = False
        self.on_spared: Callable[[], None] = lambda: None
        """Called when pictures are sent in place of splats, since a browser has no GPU for so many."""
        self.server = open_server(
            host,
            port,
            title=title,
            token=self._token,
            origin=self._origin,
            on_software=lambda: self.attempt("browser", self._in_software_too),
        )
        self.server.gui.add_html(SHEET)
        self.aim = Aim()
        self._fitting = Fitting(lambda: self.aim)
        self.stage = Stage(self.server)
        self.turntable = Turntable(self.server, self.report)
        self.pictures = Pictures(self.server, self.stage, self.report, duty=0.5)
        self._jobs: list[Background] = []
        self.server.on_client_connect(self._connected)

    @property
    def url(self) -> str:
        """The address, with the token that lets in who has it."""
        return server_url(self.server, self._token, self._origin)

    @property
    def watched(self) -> bool:
        """Whether a browser is connected."""
        return bool(self.server.get_clients())

    def open_at(self, aim: Aim) -> None:
        """Lets pages open there, and all their buttons look there."""
        self.aim = aim
        open_at(self.server, aim)

    def add_job(self, name: str, job: Callable[[], None], *, period: float, duty: float = 1.0) -> None:
        """Does `job` in the background whenever the page is woken; see `Background`."""
        self._jobs.append(Background(name, job, self.report, period=period, duty=duty))

    def draw(self) -> None:
        """Sends the browsers what stands on the stage: as pictures, if there is more than one of them can draw.

        That is chosen once; who chooses splats again in the page gets them.
        """
        if self._in_software and not self._spared and self.stage.count() > MOST_SPLATS:
            self._spared = self.stage.look.server_side = True
            self.on_spared()
        self.stage.draw()
        self.pictures.wake()

    def wake(self, *, hurry: bool = False) -> None:
        """Lets all jobs look for something to do, at once if there is a `hurry`. Returns at once."""
        for job in self._jobs:
            job.wake(hurry=hurry)
        self.pictures.wake()

    def settle(self) -> None:
        """Waits until every browser has what there is to see now; not for ever, and not at all if there is none."""
        deadline = time.monotonic() + PATIENCE
        for job in self._jobs if self.watched else []:
            job.settle(deadline - time.monotonic())
        if self.watched:
            deliver(self.server, max(deadline - time.monotonic(), 0.0))

    def attempt(self, where: str, action: Callable[[], None]) -> None:
        """Does `action`, and reports a problem instead of raising it; KeyboardInterrupt goes through."""
        try:
            action()
        except Exception as problem:
            self.report(where, problem)

    def report(self, where: str, problem: BaseException) -> None:
        """Notes a problem and shows it; one that comes again and again is noted once. Raises nothing itself."""
        try:
            line = f"{where}: {describe(problem)}"
            if line in self.problems or len(self.problems) >= MOST_PROBLEMS:
                return
            self.problems.append(line)
            self.on_problem(line)
        except Exception:
            # The page cannot even say so (it may be closing), and a run must not end for that.
            logging.getLogger(__name__).warning("viewer: %s in %s", type(problem).__name__, where)

    def wait(self) -> None:
        """Returns on Ctrl-C or `close`."""
        try:
            while not self._closed.wait(0.5):
                pass
        except KeyboardInterrupt:
            pass

    def close(self) -> None:
        """Ends the jobs and closes the port. May be called twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.turntable.close()
        self.pictures.close()
        for job in self._jobs:
            job.close()
        stop_server(self.server)

    def _in_software_too(self) -> None:
        self._in_software = True
        self.draw()

    def _connected(self, client: viser.ClientHandle) -> None:
        self.attempt("Fit", lambda: self._fitting.look_after(client))
        self.pictures.watch(client)
        self.wake(hurry=True)


class Served:
    """What has a page of its own: where it is, what went wrong in it, and its end, by `with` as well."""

    _page: Page

    @property
    def url(self) -> str:
        """The page's address, with the token that lets in who has it: who reads it can steer."""
        return self._page.url

    @property
    def problems(self) -> list[str]:
        """What went wrong in the page, newest last; a run has nothing to do about it."""
        return self._page.problems

    @property
    def watched(self) -> bool:
        """Whether a browser is connected."""
        return self._page.watched

    def wait(self) -> None:
        """Serves the page until Ctrl-C or `close`."""
        self._page.wait()

    def close(self) -> None:
        """Closes the page. May be called twice."""
        self._page.close()

    def __enter__(self: Owner) -> Owner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
