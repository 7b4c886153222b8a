"""Where cameras stand: at a distance from which all is seen, whatever the shape of the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import viser

from rfgs.render.defaults import DEFAULT_DISTANCE

FIRST_AZIMUTH, FIRST_ELEVATION = 25.0, 18.0
"""Degrees; a page opens on the object's front, turned a little so that its depth shows."""
SIDES = {"Front": (0.0, 0.0), "Side": (90.0, 0.0), "Top": (0.0, 89.0)}
"""Azimuth and elevation, degrees. Straight from above, no side of a picture would be up."""
USUAL_ASPECT = 1.2
"""Width of the part of a window that shows the scene, in heights, before a browser has told its own."""
NEAR_ENOUGH = 0.05
"""Part of its distance by which a camera may be elsewhere than is thought best, or than it was left."""


@dataclass(frozen=True)
class Aim:
    """What is to be seen: a ball, or a row of balls from left to right."""

    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius: float = 1.0
    """World units, of each ball."""
    half_width: float = 1.0
    """World units from the center of the row to its ends; the radius where there is one ball."""
    azimuth: float = FIRST_AZIMUTH
    """From where pages open, degrees."""

    @staticmethod
    def at(center: Sequence[float], radius: float) -> Aim:
        """At one ball."""
        x, y, z = center
        return Aim((x, y, z), radius, radius)

    def distance(self, aspect: float) -> float:
        """World units from which all of it is in a window of `aspect` (width by height), high or wide."""
        return DEFAULT_DISTANCE * max(self.radius, self.half_width / max(aspect, 1e-3))

    def position(self, azimuth: float, elevation: float, aspect: float) -> tuple[float, float, float]:
        """Of a camera that looks at the center from these degrees."""
        (x, y, z), distance = self.center, self.distance(aspect)
        a, e = radians(azimuth), radians(elevation)
        return (x + distance * cos(e) * cos(a), y + distance * cos(e) * sin(a), z + distance * sin(e))


def open_at(server: viser.ViserServer, aim: Aim) -> None:
    """Lets pages open there."""
    camera = server.initial_camera
    camera.position = aim.position(aim.azimuth, FIRST_ELEVATION, USUAL_ASPECT)
    camera.look_at = aim.center
    camera.near = min(0.01, 0.01 * aim.radius)  # Of a tiny object, the usual plane would cut off all.


def look(client: viser.ClientHandle, aim: Aim, side: str) -> None:
    """Moves one browser's camera to one of `SIDES`, or for "Fit" only as near or far as all is seen."""
    camera = client.camera
    if side in SIDES:
        place = np.array(aim.position(*SIDES[side], camera.aspect))
    else:
        arm = camera.position - camera.look_at
        length = float(np.linalg.norm(arm))
        arm = arm / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])
        place = np.array(aim.center) + aim.distance(camera.aspect) * arm
    with client.atomic():
        camera.position, camera.look_at = place, aim.center
        camera.up_direction = (0.0, 0.0, 1.0)


class Fitting:
    """Keeps what is to be seen in the windows of browsers whose cameras nobody has moved: as they come, their windows have
    another shape than the usual, or none yet, and a phone may be turned.

    Args:
        aim: tells what is to be seen.
    """

    def __init__(self, aim: Callable[[], Aim]) -> None:
        self._aim = aim
        self._placed: dict[int, np.ndarray] = {}
        """By browser, where its camera was left."""

    def look_after(self, client: viser.ClientHandle) -> None:
        """Follows the camera of a browser that has just connected."""

        async def moved(camera: viser.CameraHandle) -> None:
            self.fit(client)

        client.camera.on_update(moved)
        self.fit(client)

    def fit(self, client: viser.ClientHandle) -> None:
        """Steps back or nearer, if the camera still is where a page opens and that is not right for its window."""
        aim, camera = self._aim(), client.camera
        first = np.array(aim.position(aim.azimuth, FIRST_ELEVATION, USUAL_ASPECT))
        there = self._placed.get(client.client_id, first)
        distance = float(np.linalg.norm(there - aim.center))
        if np.linalg.norm(camera.position - there) > NEAR_ENOUGH * distance:
            return
        if abs(aim.distance(camera.aspect) / distance - 1) > NEAR_ENOUGH:
            place = np.array(aim.position(aim.azimuth, FIRST_ELEVATION, camera.aspect))
            self._placed[client.client_id] = place
            with client.atomic():
                camera.position, camera.look_at = place, aim.center
