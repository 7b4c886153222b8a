import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from rfgs.export.axes import WORLD_TO_Y_DOWN, WORLD_TO_Y_UP, quaternion, rotate
from rfgs.splats import Splats

SOME_ROTATIONS = [
    WORLD_TO_Y_DOWN,
    WORLD_TO_Y_UP,
    torch.diag(torch.tensor([-1.0, -1.0, 1.0])),  # a half turn, where w is 0
    *torch.from_numpy(Rotation.random(4, random_state=0).as_matrix()).float(),
]


def random_splats(count: int = 20, degree: int = 3) -> Splats:
    generator = torch.Generator().manual_seed(0)
    return Splats(
        means=torch.randn(count, 3, generator=generator),
        quats=torch.randn(count, 4, generator=generator),
        log_scales=torch.randn(count, 3, generator=generator),
        logit_opacities=torch.randn(count, generator=generator),
        sh0=torch.randn(count, 1, 3, generator=generator),
        shN=torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator) if degree else None,
    )


def covariances(splats: Splats) -> torch.Tensor:
    """[N, 3, 3] float64, with scipy's rotations."""
    turns = torch.from_numpy(Rotation.from_quat(splats.quats.numpy(), scalar_first=True).as_matrix())
    stretched = turns * splats.scales.double()[:, None]
    return stretched @ stretched.mT


def view_colors(splats: Splats, directions: torch.Tensor) -> torch.Tensor:
    """Colors [N, M, 3] seen along unit directions [M, 3], from scipy's complex spherical harmonics."""
    x, y, z = directions.double().unbind(-1)
    polar, azimuth = torch.arccos(z.clamp(-1, 1)), torch.atan2(y, x)
    basis = []
    for degree in range(splats.sh_degree + 1):
        for order in range(-degree, degree + 1):
            value = torch.from_numpy(sph_harm_y(degree, abs(order), polar.numpy(), azimuth.numpy()))
            # scipy includes the Condon-Shortley phase, as splat files do.
            part = value.imag if order < 0 else value.real
            basis.append(part * (math.sqrt(2) if order else 1))
    coefficients = torch.cat([splats.sh0, splats.shN], dim=1).double()
    return 0.5 + torch.einsum("km,nkc->nmc", torch.stack(basis), coefficients)


def test_named_axes():
    x, y, z = torch.eye(3)
    assert (WORLD_TO_Y_DOWN @ torch.tensor([1.0, 2, 3])).tolist() == [2, -3, -1]
    assert (WORLD_TO_Y_UP @ torch.tensor([1.0, 2, 3])).tolist() == [2, 3, 1]
    for rotation in (WORLD_TO_Y_DOWN, WORLD_TO_Y_UP):
        assert torch.linalg.det(rotation) == 1
    assert (WORLD_TO_Y_DOWN @ z).tolist() == [0, -1, 0] and (WORLD_TO_Y_UP @ z).tolist() == [0, 1, 0]
    # Viewers turn a PLY by half a turn about Z. Then up is +Y and our front faces -Z, where their camera is.
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    assert (half_turn @ WORLD_TO_Y_DOWN @ z).tolist() == [0, 1, 0]
    assert (half_turn @ WORLD_TO_Y_DOWN @ x).tolist() == [0, 0, -1]


@pytest.mark.parametrize("rotation", SOME_ROTATIONS)
def test_quaternion_agrees_with_scipy(rotation):
    expected = torch.from_numpy(Rotation.from_matrix(rotation.numpy()).as_quat(scalar_first=True)).float()
    assert abs(expected @ quaternion(rotation)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rotation", SOME_ROTATIONS)
def test_means_and_covariances_turn(rotation):
    splats = random_splats()
    turned = rotate(splats, rotation)
    torch.testing.assert_close(turned.means, torch.einsum("ij,nj->ni", rotation, splats.means))
    expected = rotation.double() @ covariances(splats) @ rotation.double().T
    torch.testing.assert_close(covariances(turned), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(turned.logit_opacities, splats.logit_opacities) and torch.equal(turned.sh0, splats.sh0)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("rotation", SOME_ROTATIONS)
def test_colors_turn_with_the_object(rotation, degree):
    splats = random_splats(degree=degree)
    directions = torch.nn.functional.normalize(
        torch.randn(30, 3, generator=torch.Generator().manual_seed(1)), dim=1
    )
    seen = view_colors(splats, directions)
    torch.testing.assert_close(
        view_colors(rotate(splats, rotation), directions @ rotation.T), seen, atol=2e-5, rtol=0
    )
    # The coefficients did have to change.
    assert (rotate(splats, rotation).shN - splats.shN).abs().max() > 0.5


def test_inverse_undoes():
    splats = random_splats()
    back = rotate(rotate(splats, WORLD_TO_Y_DOWN), WORLD_TO_Y_DOWN.T)
    torch.testing.assert_close(back.means, splats.means)
    torch.testing.assert_close(back.shN, splats.shN, atol=1e-5, rtol=1e-5)
    alignment = (back.quats * torch.nn.functional.normalize(splats.quats, dim=-1)).sum(dim=-1).abs()
    torch.testing.assert_close(alignment, torch.ones(len(splats)))
