"""Turning splats from one set of axes into another: means, rotations and spherical harmonics alike."""

from __future__ import annotations

import torch
from torch import Tensor

from rfgs.splats import Splats

WORLD_TO_Y_DOWN = torch.tensor([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
"""(x, y, z) -> (y, -z, -x): the up axis becomes -Y and the front -Z, which is how viewers expect a splat PLY.

SuperSplat turns such a file by half a turn about Z and looks at it from the front.
"""
WORLD_TO_Y_UP = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
"""(x, y, z) -> (y, z, x): up becomes +Y and the front +Z, glTF's axes."""


def rotate(splats: Splats, rotation: Tensor) -> Splats:
    """The same object turned about the origin.

    Args:
        rotation: a proper rotation, [3, 3].

    Returns:
        Splats whose covariances are R S R^T of the given S, and whose colors, seen along R d, are those of
        the given ones along d. Quaternions come out normalized.
    """
    rotation = rotation.to(splats.means)
    quats = torch.nn.functional.normalize(splats.quats, dim=-1)
    return Splats(
        means=splats.means @ rotation.T,
        quats=_quaternion_product(quaternion(rotation).expand_as(quats), quats),
        log_scales=splats.log_scales,
        logit_opacities=splats.logit_opacities,
        sh0=splats.sh0,
        shN=None if splats.shN is None else _rotate_harmonics(splats.shN, rotation),
    )


def quaternion(rotation: Tensor) -> Tensor:
    """The unit quaternion (w, x, y, z), w >= 0, [4], of a rotation matrix [3, 3].

    The dominant eigenvector of a symmetric 4x4 matrix (Bar-Itzhack, "New method for extracting the quaternion
    from a rotation matrix", 2000): unlike the textbook formula it has no special cases near half turns.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.double().tolist()
    matrix = torch.tensor(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, yx + xy, zx + xz],
            [xz - zx, yx + xy, yy - xx - zz, zy + yz],
            [yx - xy, zx + xz, zy + yz, zz - xx - yy],
        ],
        dtype=torch.float64,
    )
    dominant = torch.linalg.eigh(matrix).eigenvectors[:, -1]
    return (dominant if dominant[0] >= 0 else -dominant).to(rotation)


def _quaternion_product(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product of (w, x, y, z) quaternions [..., 4]: the rotation `right` followed by `left`."""
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    return torch.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        dim=-1,
    )


def _rotate_harmonics(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients [N, K - 1, 3] of the same functions on the sphere, turned by `rotation` [3, 3].

    A turned function of degree l is again one of degree l, so coefficients that match it in enough directions
    match it everywhere. That linear fit is exact, and needs none of the recursions for Wigner's matrices.
    """
    # 64 directions spread evenly (a Fibonacci spiral) make the 15 unknowns of degree 3 well conditioned.
    index = torch.arange(64, dtype=torch.float64)
    height, angle = 1 - (2 * index + 1) / 64, index * torch.pi * (3 - 5**0.5)
    ring = (1 - height**2).sqrt()
    directions = torch.stack([ring * angle.cos(), ring * angle.sin(), height], dim=-1)

    count = coefficients.shape[1]
    seen = _harmonics(directions @ rotation.cpu().double())[:, :count]  # each row is R^T d, where d now looks
    matrix = torch.linalg.lstsq(_harmonics(directions)[:, :count], seen).solution  # [K - 1, K - 1]
    return torch.einsum("kj,njc->nkc", matrix.to(coefficients), coefficients)


def _harmonics(directions: Tensor) -> Tensor:
    """Real spherical harmonics of degrees 1 to 3, [M, 15], of unit vectors [M, 3].

    The order and the signs (with the Condon-Shortley phase) are those of every splat file and renderer
    (Kerbl et al. 2023; Sloan, "Efficient Spherical Harmonic Evaluation", 2013).
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack(
        [
            -0.4886025119029199 * y,
            0.4886025119029199 * z,
            -0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ],
        dim=-1,
    )
