"""Pictures rendered here, with the library's own renderer, for browsers that asked for pixels instead of splats."""

from __future__ import annotations

import time
from functools import partial

import viser

from rfgs.viewer.background import Background, Report, in_own_thread
from rfgs.viewer.stage import Channel, Stage

SETTLED = 0.25
"""Seconds without a camera move after which a picture is rendered at full resolution."""
MOVING_SCALE = 0.5
"""Part of the resolution while the camera moves."""


class Pictures:
    """Sends each browser what its camera sees, while the look asks for pictures.

    A picture is rendered when the camera moved or the scene changed: quickly and coarse first, fine once the
    camera rests. There is one thread for all browsers, and none of it touches the run.

    Args:
        duty: greatest share of the time spent rendering, in (0, 1].
    """

    def __init__(self, server: viser.ViserServer, stage: Stage, report: Report, *, duty: float) -> None:
        self._server, self._stage = server, stage
        self._sent: dict[int, tuple[object, float, int]] = {}
        """By browser, what its picture shows: the scene's state, the time of its camera, the height."""
        self._job = Background("pictures", self._render, report, period=0.03, duty=duty)

    def wake(self) -> None:
        """Looks at all browsers again, soon."""
        self._job.wake()

    def watch(self, client: viser.ClientHandle) -> None:
        """Follows the camera of a browser that has just connected."""

        async def moved(_: viser.CameraHandle) -> None:
            if self._stage.look.as_pictures:
                self._job.wake()

        client.camera.on_update(moved)

    def close(self) -> None:
        self._job.close()

    def _render(self) -> None:
        clients = self._server.get_clients()
        self._sent = {known: sent for known, sent in self._sent.items() if known in clients}
        if not self._stage.look.as_pictures:
            if self._sent:
                self._sent = {}
                self._stage.paint_background()  # Takes the last pictures away from behind the splats.
            return
        state, splats = self._stage.state(), self._stage.splats()
        if splats is None:
            return
        # It takes long to import, and a page may never need it.
        from rfgs.viewer.painting import browser_camera, paint

        for number, client in clients.items():
            stamp = client.camera.update_timestamp
            moving = time.time() - stamp < SETTLED
            height = self._stage.look.resolution
            height = max(round(height * MOVING_SCALE), 16) if moving else height
            if self._sent.get(number) != (state, stamp, height):
                camera = browser_camera(client.camera, height)
                picture = in_own_thread(partial(paint, splats, camera, self._stage.look))
                client.scene.set_background_image(picture, format="jpeg", jpeg_quality=60 if moving else 90)
                self._sent[number] = (state, stamp, height)
            if moving:
                self._job.wake()  # Comes back until the camera rests and the fine picture is sent.


CHANNELS: tuple[Channel, ...] = ("RGB", "Alpha", "Depth")
