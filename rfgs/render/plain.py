"""The rasterization in a few lines of plain torch: every Gaussian at every pixel, for checks of the fast ones on small images."""

from __future__ import annotations

import torch
from torch import Tensor

from rfgs.render.cameras import Cameras
from rfgs.splats import Splats

BLUR = 0.3
"""Variance in pixels that each Gaussian gets on top; gsplat's `eps2d`, as are the three bounds of opacity below."""
LEAST, MOST, LEFT = 1 / 255, 0.999, 1e-4


def plain(splats: Splats, cameras: Cameras, background: Tensor) -> Tensor:
    """Colors over the background [3], [C, 3, H, W], differentiable by autograd; for splats that are all in front."""
    shapes = _rotations(splats.quats) * splats.scales[:, None]
    ys, xs = torch.meshgrid(torch.arange(cameras.height), torch.arange(cameras.width), indexing="ij")
    pixels = torch.stack((xs, ys), -1).reshape(-1, 2).to(splats.means) + 0.5
    views = []
    for viewmat, K in zip(cameras.viewmats, cameras.Ks, strict=True):
        rotation, points = viewmat[:3, :3], splats.means @ viewmat[:3, :3].T + viewmat[:3, 3]
        x, y, z = points.unbind(-1)
        zero, fx, fy = torch.zeros_like(z), K[0, 0], K[1, 1]
        center = torch.stack((fx * x / z + K[0, 2], fy * y / z + K[1, 2]), -1)
        slope = torch.stack((fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2), -1)
        flat = slope.reshape(-1, 2, 3) @ rotation @ shapes
        conic = torch.linalg.inv(flat @ flat.mT + BLUR * torch.eye(2).to(flat))
        order = torch.argsort(z, stable=True)
        away = center[order, None] - pixels
        distance = 0.5 * torch.einsum("npi,nij,npj->np", away, conic[order], away)
        alpha = (splats.opacities[order, None] * torch.exp(-distance)).clamp(max=MOST)
        alpha = torch.where(alpha >= LEAST, alpha, 0.0)
        after = torch.cumprod(1 - alpha, 0)
        before = torch.cat((torch.ones_like(after[:1]), after[:-1]))
        # The one that would end a pixel is left out.
        weight = torch.where(after > LEFT, before * alpha, 0.0)
        image = weight.T @ splats.colors[order] + (1 - weight.sum(0))[:, None] * background
        views.append(image.T.reshape(3, cameras.height, cameras.width))
    return torch.stack(views)


def _rotations(quats: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).reshape(-1, 3, 3)
