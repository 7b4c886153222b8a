"""The View panel: what is shown of the scene, and from where."""

from __future__ import annotations

from collections.abc import Callable

import viser

from rfgs.errors import UserError
from rfgs.viewer.background import Report
from rfgs.viewer.server import look_from_front
from rfgs.viewer.stage import Look, Stage
from rfgs.viewer.stills import CHANNELS
from rfgs.viewer.turn import Turntable
from rfgs.viewer.widgets import guarded, guarded_event, set_value, value_of


class ViewPanel:
    """Made inside the container that shall hold it.

    Args:
        gui: the server's.
        stage: what the panel changes the look of.
        turntable: played by the panel.
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
        *,
        with_cameras: bool,
    ) -> None:
        self._stage, self._redraw, self._turntable = stage, redraw, turntable
        look = stage.look
        self._channel = gui.add_dropdown(
            "Show", CHANNELS, initial_value=look.channel, hint="Alpha and depth are rendered on the server"
        )
        self._server_side = gui.add_checkbox(
            "Server render",
            look.server_side,
            hint="Exact pixels from rfgs' own renderer, instead of splats drawn by this browser",
        )
        self._resolution = gui.add_slider(
            "Resolution",
            min=128,
            max=1024,
            step=64,
            initial_value=look.resolution,
            hint="Height of server-rendered pictures, pixels",
        )
        self._background = gui.add_rgb("Background", initial_value=look.background)
        self._scale = gui.add_slider(
            "Splat scale",
            min=0.1,
            max=2.0,
            step=0.05,
            initial_value=look.splat_scale,
            hint="Small splats show how the asset is built",
        )
        self._cameras = gui.add_checkbox(
            "Training cameras", False, hint="The cameras of the newest step", visible=with_cameras
        )
        self._play = gui.add_checkbox("Turntable", False, hint="Let the camera go around")
        front = gui.add_button("Front view", icon=viser.Icon.CAMERA, color="gray")
        for handle in (self._channel, self._server_side, self._resolution, self._background, self._scale):
            handle.on_update(guarded(report, "View", self._apply))
        self._cameras.on_update(guarded(report, "Training cameras", redraw))
        self._play.on_update(guarded(report, "Turntable", lambda: turntable.play(self._play.value)))
        front.on_click(guarded_event(report, "Front view", self._front))

    @property
    def cameras_wanted(self) -> bool:
        """Whether the training cameras shall be shown."""
        return self._cameras.value

    def set_server_side(self, server_side: bool) -> None:
        """Ticks or clears the switch, with everything that follows from it."""
        set_value(self._server_side, server_side)

    def _apply(self) -> None:
        look = self._stage.look
        try:
            channel, server_side, background = map(
                value_of, (self._channel, self._server_side, self._background)
            )
            resolution, splat_scale = int(value_of(self._resolution)), float(value_of(self._scale))
        except UserError:
            self._show(look)  # Also in the pages that would otherwise be told of the wrong value.
            raise
        look.channel, look.server_side = channel, server_side
        look.resolution, look.splat_scale = resolution, splat_scale
        if look.background != background:
            look.background = background
            self._stage.paint_background()
        self._redraw()

    def _show(self, look: Look) -> None:
        for handle, value in (
            (self._channel, look.channel),
            (self._server_side, look.server_side),
            (self._resolution, look.resolution),
            (self._background, look.background),
            (self._scale, look.splat_scale),
        ):
            if handle.value != value:
                set_value(handle, value)

    def _front(self, event: viser.GuiEvent) -> None:
        if event.client is not None:
            look_from_front(self._stage.server, event.client)
