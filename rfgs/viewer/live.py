"""`Viewer`: the page of a run. It listens to the steps; it never owns them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import viser

from rfgs.splats import Splats
from rfgs.viewer.background import Background, describe
from rfgs.viewer.gate import Gate
from rfgs.viewer.progress import Progress
from rfgs.viewer.run_panel import RunPanel
from rfgs.viewer.server import open_server, server_url, stop_server
from rfgs.viewer.stage import Stage, snapshot

WATCHED_PERIOD, UNWATCHED_PERIOD = 0.2, 2.0
"""Least seconds between two snapshots of the splats, with and without a browser."""


class Viewer:
    """Serves the page of one run from its making until `close`.

        with Viewer(about={"prompt": prompt}) as viewer:
            for step in distill(...):
                viewer.update(step)
                if viewer.stop_requested:
                    break
            viewer.finish([path])

    Nothing that happens in a page reaches the run, except through the gate (pause, step once, stop) and the
    settings
    that the Steer panel changes between two steps: exceptions are reported in the page, browsers may come and
        go.

    Args:
        host: interface to listen on; the default is reachable from this machine only.
        port: first port to try; the next free one is taken.
        about: lines for the Run panel, by label, such as prompt, backend and guidance.

    Raises:
        UserError: an address that cannot be listened on.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 8080, *, about: Mapping[str, str] | None = None
    ) -> None:
        self.gate = Gate()
        self.problems: list[str] = []
        """What went wrong in the page, newest last; a run has nothing to do about it."""
        self._progress = Progress()
        self._latest: Splats | None = None
        self._latest_time = -float("inf")
        self._finished: list[str] | None = None
        self._closed = threading.Event()

        self._server = open_server(host, port, title="rfgs")
        self._stage = Stage(self._server)
        tabs = self._server.gui.add_tab_group()
        with tabs.add_tab("Run", viser.Icon.PLAYER_PLAY):
            self._run_panel = RunPanel(self._server.gui, self.gate, about or {}, self._wake)
        self._jobs = [
            Background("splats", self._push_splats, self._report, period=WATCHED_PERIOD, duty=0.2),
            Background("panels", self._push_panels, self._report, period=0.5, duty=0.1),
        ]
        self._server.on_client_connect(self._connected)
        self._wake()

    @property
    def url(self) -> str:
        """The page's address."""
        return server_url(self._server)

    @property
    def watched(self) -> bool:
        """Whether a browser is connected."""
        return bool(self._server.get_clients())

    @property
    def stop_requested(self) -> bool:
        """Whether somebody pressed Stop & export; the loop then ends as if this step had been the last."""
        return self.gate.stop_requested

    def update(self, step: Any) -> None:
        """Takes a `Step` of the loop, on the loop's thread. Returns at once, or when a pause ends.

        It never raises, except KeyboardInterrupt, so that Ctrl-C works in a pause.
        """
        try:
            self._listen(step)
            waited = self.gate.wait()
            self._progress.waited += waited
            if waited > 0.1:
                self._wake()
        except Exception as problem:
            self._report("update", problem)

    def finish(self, paths: Iterable[str | Path] = ()) -> None:
        """Says in the page that the run ended, and which files it wrote. The page stays up until `close`."""
        self._progress.end()
        self._finished = [str(path) for path in paths]
        self._wake()

    def wait(self) -> None:
        """Serves the page until Ctrl-C or `close`."""
        try:
            while not self._closed.wait(0.5):
                pass
        except KeyboardInterrupt:
            pass

    def close(self) -> None:
        """Closes the page. May be called twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.gate.stop()
        for job in self._jobs:
            job.close()
        stop_server(self._server)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, step: Any) -> None:
        self._progress.add(step.index, step.total, step.loss, step.residual, len(step.splats))
        watched = self.watched
        now = time.perf_counter()
        due = now - self._latest_time >= (WATCHED_PERIOD if watched else UNWATCHED_PERIOD)
        if due or step.index == step.total or self.gate.would_wait():
            self._latest, self._latest_time = snapshot(step.splats), now
            if watched:
                self._wake()

    def _connected(self, client: viser.ClientHandle) -> None:
        self._wake()

    def _wake(self) -> None:
        for job in self._jobs:
            job.wake()

    def _push_splats(self) -> None:
        if self._latest is not None:
            self._stage.put("/asset", self._latest)

    def _push_panels(self) -> None:
        if self._finished is None:
            self._run_panel.show(self._progress)
        else:
            self._run_panel.finish(self._progress, self._finished)

    def _report(self, where: str, problem: BaseException) -> None:
        line = f"{where}: {describe(problem)}"
        if line not in self.problems[-1:]:
            self.problems.append(line)
            self._run_panel.report(line)
