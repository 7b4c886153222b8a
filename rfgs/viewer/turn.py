"""Turntable play: the cameras of all browsers go around what they look at."""

from __future__ import annotations

import math
import time

import numpy as np
import viser

from rfgs.viewer.background import Background, Report

SECONDS_PER_TURN = 12.0
FRAMES_PER_SECOND = 24.0


class Turntable:
    """Turns every browser's camera while `playing`. Zooming and tilting by hand still work."""

    def __init__(self, server: viser.ViserServer, report: Report) -> None:
        self._server = server
        self.playing = False
        self._azimuths: dict[int, float] = {}
        """By browser, radians. Kept here: what a browser reports lags behind and would make the motion stutter."""
        self._last = 0.0
        self._job = Background("turntable", self._turn, report, period=1 / FRAMES_PER_SECOND)

    def play(self, playing: bool) -> None:
        """Starts or stops."""
        self.playing = playing
        self._azimuths, self._last = {}, time.perf_counter()
        self._job.wake()

    def close(self) -> None:
        self.playing = False
        self._job.close()

    def _turn(self) -> None:
        if not self.playing:
            return
        now = time.perf_counter()
        # A stall (a browser that slept, a busy machine) is not made up for by a jump.
        angle = 2 * math.pi / SECONDS_PER_TURN * min(now - self._last, 0.25)
        self._last = now
        for number, client in self._server.get_clients().items():
            camera = client.camera
            arm = camera.position - camera.look_at
            azimuth = self._azimuths.get(number, math.atan2(arm[1], arm[0])) + angle
            self._azimuths[number] = azimuth
            reach = math.hypot(arm[0], arm[1])
            target = camera.look_at
            with client.atomic():
                camera.position = target + np.array(
                    [reach * math.cos(azimuth), reach * math.sin(azimuth), arm[2]]
                )
                camera.look_at = target
        self._job.wake()
