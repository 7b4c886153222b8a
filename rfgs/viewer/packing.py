"""Splats as the arrays that a browser draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from rfgs.splats import Splats

Gaussians = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def pack(splats: Splats, scale: float = 1.0) -> Gaussians:
    """Centers, covariances, colors and opacities after their activations, without what is not finite.

    NumPy does the arithmetic, because it uses one thread: torch's would take all cores from the optimization.

    Args:
        splats: N of them, on any device.
        scale: factor on the standard deviations.

    Returns:
        centers [M, 3], covariances [M, 3, 3], rgb [M, 3] in [0, 1] and opacities [M, 1] in (0, 1), float32.
    """
    from rfgs.splats import SH_C0

    means, quats, log_scales, logits, sh0 = (
        _numpy(t) for t in (splats.means, splats.quats, splats.log_scales, splats.logit_opacities, splats.sh0)
    )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        factor = rotations(quats) * (np.exp(log_scales) * scale)[:, None, :]  # R S, [N, 3, 3]
        covariances = factor @ factor.transpose(0, 2, 1)
        opacities = 1 / (1 + np.exp(-logits))[:, None]
        packed = (means, covariances, np.clip(0.5 + SH_C0 * sh0[:, 0], 0, 1), opacities)
        # One NaN would reach the browser's depth sort and blank the whole picture. The covariances travel as
        # float16.
        fine = np.all([np.isfinite(a).all(axis=tuple(range(1, a.ndim))) for a in packed], axis=0)
        fine &= np.abs(covariances).max(axis=(1, 2), initial=0) < 65504
    return packed if fine.all() else tuple(a[fine] for a in packed)  # type: ignore[return-value]


def rotations(quats: np.ndarray) -> np.ndarray:
    """Rotation matrices [N, 3, 3] of quaternions (w, x, y, z) [N, 4], which need not be normalized."""
    w, x, y, z = (quats / np.linalg.norm(quats, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
