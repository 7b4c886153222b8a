"""The View panel: what is shown of the scene, and from where."""

from __future__ import annotations

from collections.abc import Callable

import viser

from rfgs.errors import UserError
from rfgs.viewer.aim import SIDES, Aim, look
from rfgs.viewer.background import Report
from rfgs.viewer.stage import Look, Stage
from rfgs.viewer.stills import CHANNELS
from rfgs.viewer.turn import Turntable
from rfgs.viewer.widgets import guarded, guarded_event, set_value, small, value_of

SPARED = small(
    "These are pictures drawn by rfgs: a browser without a GPU would take long for so many splats. "
    "<i>Drawn by rfgs</i>, under <i>Advanced</i>, ends that."
)


class ViewPanel:
    """Made inside the container that will hold it.

    Args:
        gui: the server's.
        stage: what the panel changes the look of.
        turntable: played by the panel.
        aim: tells what the buttons have cameras look at.
        redraw: called after the look changed, so that splats and pictures are sent again.
        with_cameras: whether there are training cameras to be shown.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        stage: Stage,
        turntable: Turntable,
        report: Report,
        redraw: Callable[[], None],
        aim: Callable[[], Aim],
        *,
        with_cameras: bool,
    ) -> None:
        self._stage, self._redraw, self._aim = stage, redraw, aim
        chosen = stage.look
        sides = gui.add_button_group("Look", (*SIDES, "Fit"), hint="Fit comes as near as shows all of it")
        self._play = gui.add_checkbox("Turntable", False, hint="Let the camera go around")
        self._background = gui.add_rgb("Background", initial_value=chosen.background)
        self._spared = gui.add_html(SPARED, visible=False)
        with gui.add_folder("Advanced", expand_by_default=False):
            self._channel = gui.add_dropdown(
                "Show",
                CHANNELS,
                initial_value=chosen.channel,
                hint="Colors, how opaque it is, or how far away; the latter two are drawn by rfgs",
            )
            self._server_side = gui.add_checkbox(
                "Drawn by rfgs",
                chosen.server_side,
                hint="Exact pixels from rfgs' own renderer, instead of splats drawn by this browser",
            )
            self._resolution = gui.add_slider(
                "Pixels",
                min=128,
                max=1024,
                step=64,
                initial_value=chosen.resolution,
                hint="Height of the pictures that rfgs draws",
            )
            self._scale = gui.add_slider(
                "Splat size",
                min=0.1,
                max=2.0,
                step=0.05,
                initial_value=chosen.splat_scale,
                hint="Small splats show how the object is built",
            )
            self._cameras = gui.add_checkbox(
                "Training cameras",
                False,
                hint="From where the model looks in the newest step, and what it sees",
                visible=with_cameras,
            )
        for handle in (self._channel, self._server_side, self._resolution, self._background, self._scale):
            handle.on_update(guarded(report, "View", self._apply))
        self._cameras.on_update(guarded(report, "Training cameras", redraw))
        self._play.on_update(guarded(report, "Turntable", lambda: turntable.play(self._play.value)))
        sides.on_click(guarded_event(report, "Look", self._look))

    @property
    def cameras_wanted(self) -> bool:
        """Whether the training cameras are to be shown."""
        return self._cameras.value

    def set_server_side(self, server_side: bool) -> None:
        """Ticks or clears the switch, with everything that follows from it."""
        set_value(self._server_side, server_side)

    def show_spared(self) -> None:
        """Says why pictures are sent, and shows where that is ended."""
        self._spared.visible = True
        self.set_server_side(True)

    def _apply(self) -> None:
        shown = self._stage.look
        try:
            channel, server_side, background = map(
                value_of, (self._channel, self._server_side, self._background)
            )
            resolution, splat_scale = int(value_of(self._resolution)), float(value_of(self._scale))
        except UserError:
            self._show(shown)  # Also in the pages that would otherwise be told of the wrong value.
            raise
        self._spared.visible = self._spared.visible and server_side
        shown.channel, shown.server_side = channel, server_side
        shown.resolution, shown.splat_scale = resolution, splat_scale
        if shown.background != background:
            shown.background = background
            self._stage.paint_background()
        self._redraw()

    def _show(self, chosen: Look) -> None:
        for handle, value in (
            (self._channel, chosen.channel),
            (self._server_side, chosen.server_side),
            (self._resolution, chosen.resolution),
            (self._background, chosen.background),
            (self._scale, chosen.splat_scale),
        ):
            if handle.value != value:
                set_value(handle, value)

    def _look(self, event: viser.GuiEvent) -> None:
        if event.client is not None:
            look(event.client, self._aim(), value_of(event.target))
