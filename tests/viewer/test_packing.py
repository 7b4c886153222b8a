"""Packed arrays against scipy's rotations, and the splats that must not reach a browser."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from rfgs.splats import ball
from rfgs.viewer.packing import pack


def random_splats(count: int = 50):
    generator = torch.Generator().manual_seed(3)
    splats = ball(count, 1.0, generator=generator, color_spread=0.3)
    splats.quats = 3 * torch.randn(count, 4, generator=generator)
    splats.log_scales = torch.randn(count, 3, generator=generator) - 2
    splats.logit_opacities = torch.randn(count, generator=generator)
    return splats


def test_covariances_are_the_rotated_squares() -> None:
    splats = random_splats()
    centers, covariances, rgb, opacities = pack(splats, scale=2.0)
    turn = Rotation.from_quat(splats.quats.numpy(), scalar_first=True).as_matrix()
    expected = turn @ np.stack([np.diag(s**2) for s in 2 * splats.scales.numpy()]) @ turn.transpose(0, 2, 1)
    np.testing.assert_allclose(covariances, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(centers, splats.means.numpy())
    np.testing.assert_allclose(rgb, splats.colors.clamp(0, 1).numpy(), atol=1e-6)
    np.testing.assert_allclose(opacities[:, 0], splats.opacities.numpy(), atol=1e-6)


def test_what_is_not_finite_is_left_out() -> None:
    splats = random_splats()
    splats.means[3, 1] = float("nan")
    splats.quats[7] = 0
    splats.log_scales[11, 0] = 50  # Finite here, infinite in the browser's float16.
    splats.logit_opacities[13] = float("nan")
    packed = pack(splats)
    kept = np.delete(np.arange(50), [3, 7, 11, 13])
    assert [len(a) for a in packed] == [46] * 4
    np.testing.assert_array_equal(packed[0], splats.means.numpy()[kept])


def test_no_splats() -> None:
    splats = random_splats().select(torch.zeros(50, dtype=torch.bool))
    assert [a.shape for a in pack(splats)] == [(0, 3), (0, 3, 3), (0, 3), (0, 1)]
