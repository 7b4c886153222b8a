"""Where cameras stand, by geometry: what is to be seen is in the window, whatever its shape."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rfgs.render.cameras import DEFAULT_FOV, orbit
from rfgs.viewer.aim import FIRST_ELEVATION, SIDES, USUAL_ASPECT, Aim, Fitting, look


@pytest.mark.parametrize("aspect", [390 / 490, 390 / 844, 1.2, 16 / 9, 4.0])
@pytest.mark.parametrize(
    "aim", [Aim.at((1, 2, 3), 0.5), Aim(radius=1.0, half_width=3.2), Aim(half_width=1.0)]
)
def test_all_is_in_the_window(aim: Aim, aspect: float) -> None:
    reach = math.tan(math.radians(DEFAULT_FOV) / 2) * aim.distance(aspect)
    assert reach >= aim.radius and reach * aspect >= aim.half_width
    # And fills it: as little is left around it as around one ball in a square.
    assert min(reach / aim.radius, reach * aspect / aim.half_width) < 1.2


def test_front_side_and_top_are_those_of_our_world() -> None:
    for azimuth, elevation in SIDES.values():
        ours = orbit(azimuth, elevation, Aim().distance(1.0), DEFAULT_FOV, 8, 8)
        place = torch.tensor(Aim().position(azimuth, elevation, 1.0))
        assert torch.allclose(ours.positions[0], place.float(), atol=1e-5)
    x, y, z = Aim().position(*SIDES["Front"], 1.0)
    assert x > 3 and abs(y) < 1e-6 and abs(z) < 1e-6


def browser(aspect: float, position: Any) -> Any:
    """A browser of which only the camera is looked at."""
    camera = SimpleNamespace(
        aspect=aspect, position=np.array(position), look_at=np.zeros(3), on_update=lambda call: None
    )
    return SimpleNamespace(client_id=1, camera=camera, atomic=nullcontext)


def test_fit_keeps_the_direction() -> None:
    client = browser(0.5, (0.0, 0.0, 7.0))
    look(client, Aim(), "Fit")
    assert np.allclose(client.camera.position, (0, 0, Aim().distance(0.5)))
    look(client, Aim(), "Side")
    assert np.allclose(client.camera.position, (0, Aim().distance(0.5), 0), atol=1e-6)


def test_a_page_is_fitted_until_somebody_moves_its_camera() -> None:
    aim = Aim()
    fitting, client = (
        Fitting(lambda: aim),
        browser(0.5, aim.position(aim.azimuth, FIRST_ELEVATION, USUAL_ASPECT)),
    )
    fitting.look_after(client)
    assert np.allclose(np.linalg.norm(client.camera.position), aim.distance(0.5))
    client.camera.aspect = 0.8  # The phone's panel has come, or it was turned.
    fitting.fit(client)
    assert np.allclose(np.linalg.norm(client.camera.position), aim.distance(0.8))
    client.camera.position, client.camera.aspect = np.array([5.0, 5, 5]), 0.5
    fitting.fit(client)
    assert np.allclose(client.camera.position, 5)


def test_a_wide_window_is_left_as_it_opens() -> None:
    first = Aim().position(Aim().azimuth, FIRST_ELEVATION, USUAL_ASPECT)
    client = browser(1.8, first)
    Fitting(Aim).look_after(client)
    assert np.allclose(client.camera.position, first)
