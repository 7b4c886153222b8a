"""The peer of the rasterizer benchmark: the same rendering in plain torch, tile by tile, differentiated by autograd.

This is how small torch-only splatting projects work: project everything, then for each tile gather the Gaussians whose
box touches it, sort them by depth, and composite with a cumulative product. Same thresholds as gsplat 1.5.
"""

import torch
from torch import Tensor


def _rotations(quats: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def gaussian(sigma, shrunk):
    """What is left of a Gaussian's opacity at `sigma`, half the square of a pixel's distance in standard deviations.

    `shrunk` is how much smaller its area was before the blur of 0.3 pixels; both [N, P]. Other programs draw other shapes.
    """
    return torch.exp(-sigma)


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, tile=16, falloff=gaussian
):
    """colors [C, H, W, 3] and alphas [C, H, W, 1] of Gaussians in front of and not far beside the cameras."""
    shapes = _rotations(quats) * scales[:, None]
    images, alphas = [], []
    for viewmat, K in zip(viewmats, Ks, strict=True):
        R, t = viewmat[:3, :3], viewmat[:3, 3]
        points = means @ R.T + t
        x, y, z = points.unbind(-1)
        zero = torch.zeros_like(z)
        J = torch.stack((K[0, 0] / z, zero, -K[0, 0] * x / z**2, zero, K[1, 1] / z, -K[1, 1] * y / z**2), -1)
        V = J.reshape(-1, 2, 3) @ R @ shapes
        flat = V @ V.mT
        cov = flat + 0.3 * torch.eye(2)
        conic = torch.linalg.inv(cov)
        shrunk = (torch.linalg.det(flat).clamp(min=0) / torch.linalg.det(cov)).sqrt()
        center = torch.stack((K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]), -1)
        with torch.no_grad():
            reach = (2 * torch.log(255 * opacities.clamp(min=1 / 255))).sqrt()
            radius = reach[:, None] * torch.stack((cov[:, 0, 0], cov[:, 1, 1]), -1).sqrt()
            low, high = center - radius, center + radius
            order = torch.argsort(z, stable=True)
            order = order[(opacities[order] >= 1 / 255) & (z[order] > 0.01)]
        rows = []
        for top in range(0, height, tile):
            row = []
            for left in range(0, width, tile):
                right, bottom = min(left + tile, width), min(top + tile, height)
                with torch.no_grad():
                    corner, end = torch.tensor([left, top]), torch.tensor([right, bottom])
                    ids = order[((high[order] >= corner) & (low[order] <= end)).all(-1)]
                    ys, xs = torch.meshgrid(
                        torch.arange(top, bottom), torch.arange(left, right), indexing="ij"
                    )
                    pixels = torch.stack((xs, ys), -1).reshape(-1, 2) + 0.5
                d = center[ids, None] - pixels
                A, B, C = conic[ids, None, 0, 0], conic[ids, None, 0, 1], conic[ids, None, 1, 1]
                sigma = 0.5 * (A * d[..., 0] ** 2 + C * d[..., 1] ** 2) + B * d[..., 0] * d[..., 1]
                alpha = (opacities[ids, None] * falloff(sigma, shrunk[ids, None])).clamp(max=0.999)
                alpha = torch.where((sigma >= 0) & (alpha >= 1 / 255), alpha, 0.0)
                after = torch.cumprod(1 - alpha, 0)
                before = torch.cat((torch.ones_like(after[:1]), after[:-1]))
                weight = torch.where(after > 1e-4, before * alpha, 0.0)
                both = torch.cat((weight.T @ colors[ids], weight.sum(0)[:, None]), -1)
                row.append(both.reshape(bottom - top, right - left, 4))
            rows.append(torch.cat(row, 1))
        image = torch.cat(rows, 0)
        images.append(image[..., :3])
        alphas.append(image[..., 3:])
    return torch.stack(images), torch.stack(alphas)
