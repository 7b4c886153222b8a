"""`Viewer`: the page of a run. It listens to the steps; it never owns them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import viser

from rfgs.runs.folders import PAUSED, slug
from rfgs.viewer.background import in_own_thread
from rfgs.viewer.cameras_shown import ShownCameras
from rfgs.viewer.curves_panel import CurvesPanel
from rfgs.viewer.gate import Gate
from rfgs.viewer.newest import SIGHT_PERIOD, WATCHED_PERIOD, Newest
from rfgs.viewer.page import Page, Served
from rfgs.viewer.prior_panel import Decode, PriorPanel, Sight
from rfgs.viewer.progress import Progress
from rfgs.viewer.run_panel import RunPanel
from rfgs.viewer.save_panel import SavePanel
from rfgs.viewer.steering import Change, Steering
from rfgs.viewer.view_panel import ViewPanel

if TYPE_CHECKING:
    from rfgs.splats import Splats
    from rfgs.viewer.steer_panel import SteerPanel


class Viewer(Served):
    """Serves the page of one run from its making until `close`.

        with Viewer(about={"prompt": prompt}) as viewer:
            viewer.start(config, prior)
            for step in distill(...):
                viewer.update(step)
                if viewer.stop_requested:
                    break
            viewer.finish([path])

    Nothing that happens in a page reaches the run, except through the gate (pause, step once, stop) and the
    settings that the Steer panel changes between two steps: exceptions are reported in the page, browsers may
    come and go.

    Args:
        host: interface to listen on; the default is reachable from this machine only.
        port: first port to try; the next free one is taken.
        about: lines for the Run panel, by label, such as prompt, backend and guidance.
        server_render: whether pages open with pictures rendered here instead of splats drawn by the browser;
            None takes it where the splats are on a GPU.
        any_words: whether the Steer panel takes prompts that name things which the prior has never seen.
        origin: under which a forwarder shows the page, such as "https://name.example".
        folder: of the run, to tell what to type once its process is gone, and to mark a pause in; None does neither.

    Raises:
        UserError: an address that cannot be listened on.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        about: Mapping[str, str] | None = None,
        server_render: bool | None = None,
        any_words: bool = False,
        origin: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder
        self.gate = Gate(None if folder is None else folder / PAUSED)
        self.steering = Steering()
        self._about = dict(about or {})
        self._server_render = server_render
        self._any_words = any_words
        self._config: Any = None
        self._steer_panel: SteerPanel | None = None
        self._decode: Decode | None = None
        self._progress = Progress()
        self._newest = Newest()
        self._sight_shown: Sight | None = None
        self._finished: list[str] | None = None
        self._failed = False
        self._page = Page(host, port, title="rfgs", origin=origin)
        self._cameras = ShownCameras(self._page.server)
        self._add_panels()
        if server_render:
            self._view_panel.set_server_side(True)
        # The shares of time bound what a run loses to one browser on a machine without a core to spare.
        self._page.add_job("splats", self._push_splats, period=WATCHED_PERIOD, duty=0.1)
        self._page.add_job("panels", self._push_panels, period=0.5, duty=0.05)
        self._page.add_job("prior", self._push_sight, period=SIGHT_PERIOD, duty=0.05)
        self._page.wake()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody pressed Stop & export; the loop then ends as if this step had been the last."""
        return self.gate.stop_requested

    @property
    def changes(self) -> list[Change]:
        """What was changed from the page so far, for the run's record."""
        return self.steering.changes

    def show(self, splats: Splats) -> None:
        """Shows splats before the first step: what the run begins with, while its model is loaded."""
        self._page.attempt("show", lambda: self._newest.keep(splats, until_next=True))
        self._page.wake(hurry=True)

    def start(self, config: Any, prior: Any = None) -> None:
        """Tells the page what it may steer and how to show what the prior sees; call it once, before the loop.

        Args:
            config: the loop's settings, a mutable dataclass. `update` changes it, and nothing else does.
            prior: its `decode` is used, on another thread than the loop's, while somebody watches.
        """
        self._page.attempt("start", lambda: self._start(config, prior))

    def update(self, step: Any) -> None:
        """Takes a `Step` of the loop, on the loop's thread, and changes the settings that somebody steered.

        It returns at once, or when a pause ends. It never raises, except KeyboardInterrupt, so that Ctrl-C
        works in a pause.
        """
        # One by one: a run that cannot be shown can still be held, and steered.
        self._page.attempt("update", lambda: self._listen(step))
        self._page.attempt("pause", self._pass_gate)
        if self._config is not None:
            self._page.attempt("steer", lambda: self._steer(step.index + 1))
        self._newest.let_go()

    def finish(self, paths: Iterable[str | Path] = (), splats: Splats | None = None) -> None:
        """Says in the page that the run ended, and which files it wrote. The page stays up until `close`.

        Args:
            splats: what the run came to, if there may have been steps that the page was not told of in full.
        """
        if splats is not None:
            self._progress.splats = len(splats)  # Without the haze that the last step still had.
            self._page.attempt("finish", lambda: self._newest.keep(splats))
        self._end([str(path) for path in paths])

    def fail(self, problem: BaseException) -> None:
        """Says in the page that the run ended without a result, and why."""
        why = str(problem).splitlines()[0] if str(problem) else ""
        if isinstance(problem, KeyboardInterrupt):
            why = "Ctrl-C"
        self._failed = True
        self._end([why or type(problem).__name__])

    def _end(self, lines: list[str]) -> None:
        self._progress.end()
        self._finished = lines
        self._page.attempt("Save", self._save_panel.end)
        if self._steer_panel is not None:
            self._page.attempt("Steer", self._steer_panel.end)
        self._page.wake(hurry=True)

    def close(self) -> None:
        """Closes the page, and the gate for good. May be called twice.

        After `finish`, browsers get to see what the run came to first.
        """
        self.gate.stop()
        if self._finished is not None:
            self._page.attempt("finish", self._page.settle)
        self._page.attempt("close", self._page.close)

    def __exit__(self, *raised: object) -> None:
        problem = next((one for one in raised if isinstance(one, BaseException)), None)
        if problem is not None and self._finished is None:
            self.fail(problem)
        self.close()

    def _add_panels(self) -> None:
        page = self._page
        gui = page.server.gui
        tabs = gui.add_tab_group()
        with tabs.add_tab("Run", viser.Icon.PLAYER_PLAY):
            place = "" if self._folder is None else shlex.quote(str(self._folder))
            self._run_panel = RunPanel(
                gui,
                self.gate,
                self._about,
                page.report,
                self._wake_at_once,
                go_on=place and f"rfgs generate --resume {place}",
                look_again=place and f"rfgs view {place}",
            )
            page.on_problem = self._run_panel.warn
            with gui.add_folder("Advanced", expand_by_default=False):
                self._prior_folder = gui.add_folder(None, visible=False)
                with self._prior_folder:
                    self._prior_panel = PriorPanel(gui)
                self._curves_panel = CurvesPanel(gui)
        self._steer_tab = tabs.add_tab("Steer", viser.Icon.STEERING_WHEEL)
        with self._steer_tab:
            self._steer_note = gui.add_markdown("There is nothing to steer before the first step.")
        with tabs.add_tab("View", viser.Icon.EYE):
            self._view_panel = ViewPanel(
                gui, page.stage, page.turntable, page.report, page.wake, lambda: page.aim, with_cameras=True
            )
            page.on_spared = self._view_panel.show_spared
        with tabs.add_tab("Save", viser.Icon.DOWNLOAD):
            name, about = slug(self._about.get("prompt", "")), self._about
            said = {"prompt": "prompt", "seed": "seed", "backend": "model"}
            comments = [f"{said[key]}: {about[key]}" for key in said if about.get(key)]
            self._save_panel = SavePanel(gui, page.stage, page.report, name, of_run=True, comments=comments)

    def _start(self, config: Any, prior: Any) -> None:
        # Of torch, which a page does not wait for.
        from rfgs.viewer.steer_panel import SteerPanel, check_text

        self._config = config
        self._decode = None if prior is None else prior.decode
        self.steering.started_with["prompt"] = self._about.get("prompt", "")
        for field in self._about.keys() & vars(config).keys():
            # A run that goes on may have been steered before.
            self._run_panel.describe(field, self.steering.current(config, field))
        with self._steer_tab:
            self._steer_note.visible = False
            self._steer_panel = SteerPanel(
                self._page.server.gui,
                config,
                self.steering,
                self._page.report,
                self._wake_at_once,
                check_text=lambda field, text: (
                    "" if prior is None else check_text(prior, field, text, any_words=self._any_words)
                ),
            )
        self._prior_folder.visible = self._decode is not None

    def _wake_at_once(self) -> None:
        self._page.wake(hurry=True)

    def _listen(self, step: Any) -> None:
        self._progress.add(step.index, step.total, step.loss, step.residual, len(step.splats))
        if self._server_render is None:
            self._server_render = step.splats.device.type == "cuda"
            if self._server_render:
                self._view_panel.set_server_side(True)
        held = self.gate.would_wait()
        if self._newest.take(step, watched=self.watched, held=held):
            self._page.wake(hurry=held)

    def _pass_gate(self) -> None:
        if self.gate.would_wait():
            self._progress.hold()
            self.gate.wait()
            self._progress.go_on()
            self._page.wake()
        else:
            self.gate.wait()

    def _steer(self, next_step: int) -> None:
        made = self.steering.apply(self._config, next_step)
        for change in made:
            if change.field in self._about:  # Prompt and guidance.
                self._run_panel.describe(change.field, change.new)
        if made:
            self._page.wake()

    def _push_splats(self) -> None:
        if self._newest.splats is not None:
            self._page.stage.put("/asset", self._newest.splats)
        self._page.draw()

    def _push_panels(self) -> None:
        # One by one: a panel that fails leaves the others as they should be.
        self._page.attempt("Run", self._push_run)
        self._page.attempt("Curves", lambda: self._curves_panel.show(self._progress))
        steer = self._steer_panel
        if steer is not None:
            self._page.attempt("Steer", lambda: steer.show(self.changes))
        self._page.attempt("Training cameras", self._push_cameras)

    def _push_run(self) -> None:
        if self._finished is None:
            self._run_panel.show(self._progress)
        else:
            self._run_panel.finish(self._progress, self._finished, failed=self._failed)

    def _push_cameras(self) -> None:
        self._cameras.follow(self._newest.views if self._view_panel.cameras_wanted else None)

    def _push_sight(self) -> None:
        sight = self._newest.sight
        if self._decode is None or sight is None or sight is self._sight_shown:
            return
        if self._prior_panel.wanted and self.watched:
            self._sight_shown = sight
            decode = self._decode
            in_own_thread(lambda: self._prior_panel.show(sight, decode))
