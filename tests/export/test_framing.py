import math
from dataclasses import replace

import numpy as np
import torch

from rfgs.export.framing import framed, framing
from rfgs.export.turntable import turntable_frames
from rfgs.splats import Splats, ball
from tests.export.test_turntable import four_balls

USUAL = ((0.0, 0.0, 0.0), 1.0)


def moved(splats: Splats, factor: float, by: tuple[float, float, float]) -> Splats:
    """The same scene, larger and elsewhere."""
    return replace(
        splats,
        means=splats.means * factor + torch.tensor(by),
        log_scales=splats.log_scales + math.log(factor),
    )


def test_what_a_run_makes_is_seen_as_ever():
    start = ball(500, 0.7, generator=torch.Generator().manual_seed(0))
    full = replace(start, means=1.0 * torch.nn.functional.normalize(start.means, dim=-1))
    for splats in (start, full, four_balls()):
        assert framing(splats) == USUAL and framed(splats) is splats


def test_a_scene_elsewhere_or_tiny_fills_the_picture_alike():
    scene = ball(800, 0.8, generator=torch.Generator().manual_seed(0), opacity=0.9, color_spread=0.3)
    usual = turntable_frames(scene, frames=2, size=48)
    for factor, by in ((40.0, (100.0, -30.0, 7.0)), (1e-4, (0.0, 0.0, 0.0)), (0.05, (0.9, 0.0, 0.0))):
        other = moved(scene, factor, by)
        assert framing(other) != USUAL
        frames = turntable_frames(other, frames=2, size=48)
        filled = [(views.min(axis=-1) < 250).mean() for views in (frames, usual)]
        assert 0.35 < filled[0] and abs(filled[0] - filled[1]) < 0.15
        assert np.abs(frames.astype(float) - usual).mean() < 30


def test_neither_strays_nor_haze_nor_nonsense_move_the_frame():
    scene = moved(ball(400, 1.0, generator=torch.Generator().manual_seed(0)), 10.0, (50.0, 0.0, 0.0))
    (x, y, z), radius = framing(scene)
    assert abs(x - 50) < 1 and abs(y) < 1 and abs(z) < 1 and 9 < radius < 14
    haze = moved(ball(400, 1.0, generator=torch.Generator().manual_seed(1)), 1000.0, (0.0, 0.0, 0.0))
    haze.logit_opacities -= 6
    both = Splats.merge([scene, haze])
    both.means[3], both.means[4, 0], both.log_scales[5] = 1e6, math.nan, math.inf
    assert np.allclose([*framing(both)[0], framing(both)[1]], [x, y, z, radius], rtol=0.1, atol=1)
    nothing = replace(scene, means=torch.full_like(scene.means, math.nan))
    assert framing(nothing) == USUAL
