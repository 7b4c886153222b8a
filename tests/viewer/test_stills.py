"""Server-side pictures against the renderer, and browsers' cameras against ours."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch
from viser.transforms import SO3

from rfgs.render import render
from rfgs.render.cameras import orbit
from rfgs.viewer.painting import browser_camera, paint
from rfgs.viewer.stage import Look
from tests.viewer.viewer_fakes import three_balls

CAMERA = orbit(25, 18, 3.2, 40, 96, 64)


def test_a_browsers_camera_is_ours() -> None:
    to_world = torch.linalg.inv(CAMERA.viewmats[0].double()).numpy()
    camera = SimpleNamespace(
        wxyz=SO3.from_matrix(to_world[:3, :3]).wxyz,
        position=to_world[:3, 3],
        fov=math.radians(40),
        aspect=1.5,
    )
    ours = browser_camera(camera, 64)  # type: ignore[arg-type]
    assert (ours.width, ours.height) == (96, 64)
    torch.testing.assert_close(ours.viewmats, CAMERA.viewmats, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.Ks, CAMERA.Ks)


def test_rgb_and_alpha_are_the_renderers() -> None:
    splats, look = three_balls(300), Look(background=(255, 128, 0))
    frames = render(splats, CAMERA, torch.tensor([255, 128, 0]) / 255)
    rgb = (frames.rgb[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(paint(splats, CAMERA, look), rgb)
    look.channel = "Alpha"
    alpha = (frames.alpha[0, 0].clamp(0, 1) * 255).round().byte().numpy()
    np.testing.assert_array_equal(paint(splats, CAMERA, look), np.repeat(alpha[:, :, None], 3, axis=2))


def test_depth_is_brighter_where_it_is_near() -> None:
    front = orbit(0, 0, 3.2, 40, 64, 64)
    picture = paint(three_balls(900), front, Look(channel="Depth")).astype(int).sum(axis=2)
    # From the front the red ball at (0.6, 0, 0) stands in the middle, green at (0, 0.6, 0) right of it, farther.
    assert picture[32, 32] > picture[32, 48] + 100
    np.testing.assert_array_equal(paint(three_balls(900), front, Look(channel="Depth"))[0, 0], (32, 33, 36))


def test_splat_scale_shrinks() -> None:
    splats = three_balls(300)
    full = paint(splats, CAMERA, Look(channel="Alpha")).astype(float).mean()
    half = paint(splats, CAMERA, Look(channel="Alpha", splat_scale=0.5)).astype(float).mean()
    assert half < 0.8 * full


def test_nothing_to_see_in_depth() -> None:
    empty = three_balls(3)
    empty.logit_opacities[:] = -20
    assert (paint(empty, CAMERA, Look(channel="Depth")) == np.array((32, 33, 36))).all()
