"""An independent truth for the rasterizers: gsplat's own torch projection and a dense compositor, in any float type.

gsplat's torch rasterizer needs its CUDA kernels for the intersections; here every Gaussian is evaluated at every pixel
and the stopping rule of its CUDA kernel is written out pixel by pixel, so autograd in float64 gives the gradients.
"""

import torch
from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics


def project(
    means,
    quats,
    scales,
    opacities,
    viewmats,
    Ks,
    width,
    height,
    eps2d=0.3,
    near=0.01,
    far=1e10,
    antialiased=False,
):
    """means2d [C,N,2], conics [C,N,3], depths [C,N], opacities [C,N], and which Gaussians gsplat's CUDA path keeps [C,N]."""
    covars, _ = _quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    radii, means2d, depths, conics, compensations = _fully_fused_projection(
        means, covars, viewmats, Ks, width, height, eps2d, near, far, calc_compensations=antialiased
    )
    opacities = opacities.expand(len(viewmats), -1)
    if antialiased:
        opacities = opacities * compensations
    return means2d, conics, depths, opacities, (radii > 0).all(-1)


def composite(
    means2d,
    conics,
    colors,
    opacities,
    depths,
    kept,
    width,
    height,
    backgrounds=None,
    max_alpha=0.999,
    shift=0.0,
):
    """colors [C,H,W,D], alphas [C,H,W,1] by brute force. All inputs [C,N,...].

    shift [C,N,P,2], zeros, moves each Gaussian for each pixel by itself: its gradient is means2d's, pixel by pixel.
    """
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack((xs, ys), -1).reshape(-1, 2).to(means2d.dtype) + 0.5  # [P, 2]
    images, alphas = [], []
    for c in range(len(means2d)):
        order = torch.argsort(depths[c], stable=True)
        order = order[kept[c][order]]
        delta = means2d[c, order, None] - pixels  # [n, P, 2]
        if torch.is_tensor(shift):
            delta = delta + shift[c, order]
        A, B, C = conics[c, order, None].unbind(-1)
        sigma = 0.5 * (A * delta[..., 0] ** 2 + C * delta[..., 1] ** 2) + B * delta[..., 0] * delta[..., 1]
        alpha = (opacities[c, order, None] * torch.exp(-sigma)).clamp(max=max_alpha)
        alpha = torch.where((sigma >= 0) & (alpha >= 1 / 255), alpha, 0.0)
        after = torch.cumprod(1 - alpha, 0)  # T after each Gaussian
        before = torch.cat((torch.ones_like(after[:1]), after[:-1]))
        weight = torch.where(
            after > 1e-4, before * alpha, 0.0
        )  # the one that would end the pixel is left out
        image = torch.einsum("np,nd->pd", weight, colors[c, order])
        total = weight.sum(0)[:, None]
        if backgrounds is not None:
            image = image + (1 - total) * backgrounds[c]
        images.append(image.reshape(height, width, -1))
        alphas.append(total.reshape(height, width, 1))
    return torch.stack(images), torch.stack(alphas)


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=0.01, far_plane=1e10, eps2d=0.3,
    sh_degree=None, backgrounds=None, render_mode="RGB", rasterize_mode="classic", max_alpha=0.999, **unused,
):  # fmt: skip
    """gsplat.rasterization's results with autograd through every step; info["means2d"] keeps its gradient."""
    means2d, conics, depths, opacities, kept = project(
        means, quats, scales, opacities, viewmats, Ks, width, height, eps2d, near_plane, far_plane,
        rasterize_mode == "antialiased",
    )  # fmt: skip
    if means2d.requires_grad:
        means2d.retain_grad()
    C, N = depths.shape
    if sh_degree is not None:
        directions = means - torch.linalg.inv(viewmats)[:, None, :3, 3]
        coefficients = colors.expand(C, N, -1, 3)
        colors = (_spherical_harmonics(sh_degree, directions, coefficients) + 0.5).clamp_min(0)
    channels = colors.expand(C, N, colors.shape[-1])
    if render_mode in ("D", "ED"):
        channels, backgrounds = depths[..., None], None
    elif render_mode != "RGB":
        channels = torch.cat((channels, depths[..., None]), -1)
        if backgrounds is not None:
            backgrounds = torch.cat((backgrounds, torch.zeros_like(backgrounds[:, :1])), -1)
    image, alphas = composite(
        means2d, conics, channels, opacities, depths, kept, width, height, backgrounds, max_alpha
    )
    if render_mode in ("ED", "RGB+ED"):
        image = torch.cat((image[..., :-1], image[..., -1:] / alphas.clamp(min=1e-10)), -1)
    return (
        image,
        alphas,
        {"means2d": means2d, "conics": conics, "depths": depths, "opacities": opacities, "kept": kept},
    )
