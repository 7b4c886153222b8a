"""Differentiable Gaussian rasterization on the CPU, with gsplat's arguments, meaning and results.

Two autograd functions, as in gsplat: `_Project` (3D to 2D, all cameras at once) and `_Rasterize` (binning and
compositing), so that `info["means2d"]` is a tensor between them whose gradient densification can keep.
"""

import functools
import importlib.metadata
import math
import re

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rfgs.errors import UserError

from . import bin as binning
from . import composite, project
from .access import CHUNK
from .checks import check_modes, check_tensors
from .jit import launch, launch_together, threads_for
from .sh import colors_from_sh


@functools.cache
def gsplat_max_alpha() -> float:
    """The largest alpha of one Gaussian in the installed gsplat: 0.999 up to 1.5, 0.99 from 1.6 (and if not installed: 0.999).

    Read from the package's metadata: importing gsplat takes seconds.
    """
    try:
        version = importlib.metadata.version("gsplat")
    except importlib.metadata.PackageNotFoundError:
        return 0.999
    major, minor = re.findall(r"\d+", version)[:2]
    return 0.999 if (int(major), int(minor)) < (1, 6) else 0.99


def _flat(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory as a flat array."""
    return tensor.detach().view(-1).numpy()


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, means, quats, scales, opacities, viewmats, Ks,
        width, height, near, far, radius_clip, eps2d, antialiased,
    ):  # fmt: skip
        means, quats, scales = means.contiguous(), quats.contiguous(), scales.contiguous()
        viewmats, Ks = viewmats.contiguous(), Ks.contiguous()
        C, N = len(viewmats), len(means)
        radii = torch.empty(C, N, 2, dtype=torch.int32)
        means2d, depths, conics = torch.empty(C, N, 2), torch.empty(C, N), torch.empty(C, N, 3)
        compensations = torch.empty((C, N) if antialiased else (0,))
        launch(
            project.project_forward, -(-N // CHUNK),
            _flat(means), _flat(quats), _flat(scales), _flat(opacities.contiguous()), _flat(viewmats), _flat(Ks), N, C,
            width, height, near, far, radius_clip, eps2d, antialiased,
            _flat(radii), _flat(means2d), _flat(depths), _flat(conics), _flat(compensations), cost=0.013 * C * N,
        )  # fmt: skip
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, radii, conics, compensations)
        ctx.settings = (width, height, eps2d, antialiased)
        ctx.mark_non_differentiable(radii)
        return radii, means2d, depths, conics, compensations

    @staticmethod
    @once_differentiable
    def backward(ctx, _, v_means2d, v_depths, v_conics, v_compensations):
        means, quats, scales, viewmats, Ks, radii, conics, compensations = ctx.saved_tensors
        N, C = len(means), len(viewmats)
        v_means, v_quats, v_scales = (
            torch.empty_like(means),
            torch.empty_like(quats),
            torch.empty_like(scales),
        )
        gradients = (_flat(g.contiguous()) for g in (v_means2d, v_depths, v_conics, v_compensations))
        launch(
            project.project_backward, -(-N // CHUNK),
            _flat(means), _flat(quats), _flat(scales), _flat(viewmats), _flat(Ks), N, C, *ctx.settings,
            _flat(radii), _flat(conics), _flat(compensations), *gradients,
            _flat(v_means), _flat(v_quats), _flat(v_scales), cost=0.016 * C * N,
        )  # fmt: skip
        return v_means, v_quats, v_scales, *(None,) * 10


def _bin(means2d, conics, opacities, colors, radii, depths, width, height):
    """Everything that the compositor needs to know about which Gaussian is where, as a dict of arrays."""
    C, N = depths.shape
    across, down = -(-width // binning.TILE), -(-height // binning.TILE)
    records = torch.empty(C * N * binning.RECORD).numpy()
    boxes, tiles = np.empty(C * N * 4, np.int16), torch.empty(C, N, dtype=torch.int32)
    order, counts = np.empty(C * N, np.int32), np.empty(C, np.int32)
    launch_together(
        [
            (binning.sort_by_depth, C, _flat(depths).view(np.int32), _flat(radii), N, order, counts),
            (
                binning.pack_records, C * -(-N // CHUNK),
                _flat(means2d), _flat(conics), _flat(opacities.contiguous()), colors.detach().numpy(), _flat(radii),
                N, width, height, records, boxes, _flat(tiles),
            ),
        ],
        cost=0.03 * C * N,
    )  # fmt: skip
    # So many parts of each camera's sorted Gaussians that the threads can share them out evenly.
    threads = threads_for(0.02 * C * N)
    parts = threads // math.gcd(threads, C)
    lengths = np.empty((C * parts, across * down), np.int32)
    launch(binning.count_tiles, C * parts, boxes, order, counts, N, across, lengths, cost=0.01 * C * N)
    # A tile's slots hold the first part's Gaussians, then the second's, and so on.
    ends = np.cumsum(lengths.reshape(C, parts, -1).transpose(0, 2, 1), dtype=np.int32).reshape(C, -1, parts)
    starts = np.concatenate((np.zeros(1, np.int32), ends[..., -1].ravel()))
    cursors = np.ascontiguousarray(ends.transpose(0, 2, 1)).reshape(C * parts, -1) - lengths
    first_edge = np.zeros(C * N + 1, np.int32)
    np.cumsum(_flat(tiles), out=first_edge[1:])
    flatten_ids, edges = torch.empty(int(starts[-1]), dtype=torch.int32), np.empty(int(starts[-1]), np.int32)
    launch(
        binning.fill_tiles, C * parts,
        boxes, order, counts, first_edge, cursors, N, across, _flat(flatten_ids), edges, cost=0.015 * len(edges),
    )  # fmt: skip
    return {
        "records": records, "tiles_per_gauss": tiles, "first_edge": first_edge, "edges": edges, "starts": starts,
        "flatten_ids": flatten_ids, "masks": np.empty(len(edges), np.int64),
        "longest": int(np.diff(starts).max(initial=0)), "across": across, "tiles": across * down,
    }  # fmt: skip


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means2d, conics, colors, opacities, backgrounds, radii, depths, width, height, absgrad):
        C, D = len(means2d), colors.shape[-1]
        bins = _bin(means2d, conics, opacities, colors, radii, depths, width, height)
        out, alphas = torch.empty(C, height, width, D), torch.empty(C, height, width, 1)
        launch(
            composite.composite_forward, C * bins["tiles"],
            bins["records"], _flat(bins["flatten_ids"]), bins["starts"], bins["masks"], bins["longest"], bins["across"],
            bins["tiles"], width, height, gsplat_max_alpha(), backgrounds.detach().numpy(), _flat(out), _flat(alphas),
            cost=C * bins["tiles"] + 0.06 * len(bins["edges"]),
        )  # fmt: skip
        ctx.bins, ctx.settings = bins, (width, height, gsplat_max_alpha())
        ctx.means2d = means2d if absgrad else None
        ctx.save_for_backward(out, alphas)
        ctx.shape, ctx.per_camera = (C, colors.shape[1], D), (len(opacities), len(colors))
        ctx.set_materialize_grads(False)  # or autograd makes zeros for the outputs that have no gradient
        offsets = torch.from_numpy(bins["starts"][:-1]).view(C, -1, bins["across"])
        ctx.mark_non_differentiable(bins["tiles_per_gauss"], bins["flatten_ids"], offsets)
        return out, alphas, bins["tiles_per_gauss"], bins["flatten_ids"], offsets

    @staticmethod
    @once_differentiable
    def backward(ctx, v_colors, v_alphas, *_):
        out, alphas = ctx.saved_tensors
        v_colors = torch.zeros_like(out) if v_colors is None else v_colors
        v_alphas = torch.zeros_like(alphas) if v_alphas is None else v_alphas
        C, N, D = ctx.shape
        bins = ctx.bins
        sums = torch.empty(len(bins["edges"]) * composite.GRADS).numpy()
        launch(
            composite.composite_backward, C * bins["tiles"],
            bins["records"], _flat(bins["flatten_ids"]), bins["edges"], bins["starts"], bins["masks"], bins["longest"],
            bins["across"], bins["tiles"], *ctx.settings, D, _flat(out), _flat(alphas), _flat(v_colors.contiguous()),
            _flat(v_alphas.contiguous()), ctx.means2d is not None, sums,
            cost=C * bins["tiles"] + 0.1 * len(bins["edges"]),
        )  # fmt: skip
        v_means2d, v_conics = torch.empty(C, N, 2), torch.empty(C, N, 3)
        v_opacities, v_splats = torch.empty(ctx.per_camera[0], N), torch.empty(ctx.per_camera[1], N, D)
        v_abs = torch.empty((C, N, 2) if ctx.means2d is not None else (0, 2))
        launch(
            composite.gather_gradients, -(-N // CHUNK),
            sums, bins["first_edge"], _flat(bins["tiles_per_gauss"]), bins["records"], N, C, D,
            v_means2d.view(-1, 2).numpy(), v_conics.view(-1, 3).numpy(), _flat(v_opacities),
            v_splats.view(-1, D).numpy(), v_abs.view(-1, 2).numpy(), cost=0.01 * C * N,
        )  # fmt: skip
        if ctx.means2d is not None:
            ctx.means2d.absgrad = v_abs
        v_backgrounds = None
        if ctx.needs_input_grad[4]:
            v_backgrounds = (v_colors * (1.0 - alphas)).sum((1, 2))
        return v_means2d, v_conics, v_splats, v_opacities, v_backgrounds, *(None,) * 5


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    absgrad: bool = False,
) -> tuple[Tensor, Tensor, dict]:
    """`gsplat.rasterization` (version 1.5, packed=False, pinhole cameras) on the CPU.

    Args:
        means: centers, [N, 3].
        quats: rotations wxyz, not necessarily normalized, [N, 4].
        scales: standard deviations along the axes, positive, [N, 3].
        opacities: [N], in [0, 1].
        colors: values of any D channels, [N, D] or [C, N, D]; or with `sh_degree` spherical-harmonics coefficients,
            [N, K, 3] or [C, N, K, 3], K >= (sh_degree + 1)^2.
        viewmats: world to camera, OpenCV axes, [C, 4, 4]. No gradient.
        Ks: intrinsics in pixels, [C, 3, 3]. No gradient.
        width, height: of the image, in pixels.
        near_plane, far_plane: Gaussians outside this range of camera z are dropped.
        radius_clip: Gaussians whose radii (pixels) are both at most this are dropped.
        eps2d: added to the diagonal of the image covariance, in squared pixels.
        backgrounds: [C, D], added with weight 1 - alpha; zeros behind depth.
        render_mode: "RGB", "D" (accumulated depth), "ED" (expected depth), "RGB+D" or "RGB+ED" (depth is the last channel).
        rasterize_mode: "classic", or "antialiased" (opacities times the compensation of Mip-Splatting, Yu et al. 2024).
        absgrad: the backward pass sets `info["means2d"].absgrad`, [C, N, 2] (AbsGS, Ye et al. 2024).

    Returns:
        colors [C, height, width, X], alphas [C, height, width, 1], and gsplat's info: radii [C, N, 2] int32, means2d
        [C, N, 2], depths [C, N], conics [C, N, 3], opacities [C, N], tiles_per_gauss [C, N], flatten_ids, isect_offsets
        [C, tile_height, tile_width], width, height, tile_size, tile_width, tile_height, n_cameras, n_batches, and None
        for batch_ids, camera_ids and gaussian_ids. (gsplat's isect_ids, its sorting keys, do not exist here.)

    Channels go through the compositor four at a time. The same inputs give the same bits with any number of threads.

    Raises:
        UserError: on shapes, devices, dtypes or modes that cannot be rendered.
    """
    antialiased = rasterize_mode == "antialiased"
    check_tensors(means, quats, scales, opacities, colors, viewmats, Ks, sh_degree, backgrounds)
    check_modes(width, height, render_mode, rasterize_mode)
    C, N = len(viewmats), len(means)
    radii, means2d, depths, conics, compensations = _Project.apply(
        means, quats, scales, opacities, viewmats, Ks,
        width, height, near_plane, far_plane, radius_clip, eps2d, antialiased,
    )  # fmt: skip
    # What all cameras share stays [1, N, ...]: the kernel sums its gradient, cheaper than torch would.
    opacities = opacities * compensations if antialiased else opacities[None]

    if render_mode in ("D", "ED"):
        channels, backgrounds = depths[..., None], None
    else:
        channels = colors if sh_degree is None else colors_from_sh(sh_degree, colors, means, viewmats, radii)
        channels = channels if channels.dim() == 3 else channels[None]
        if render_mode != "RGB":
            channels = channels.expand(C, N, channels.shape[-1])
            channels = torch.cat((channels, depths[..., None]), -1)
            if backgrounds is not None:
                backgrounds = torch.nn.functional.pad(backgrounds, (0, 1))
    if backgrounds is None:
        backgrounds = torch.zeros(C, channels.shape[-1])
    backgrounds = backgrounds.contiguous()

    if absgrad and channels.shape[-1] > 4:
        raise UserError(
            f"absgrad with {channels.shape[-1]} channels: it needs all channels at once, at most 4"
        )
    rendered = []
    # The kernels carry up to four channels. (A slice of all of them would cost a copy of its gradient.)
    parts = [channels] if channels.shape[-1] <= 4 else channels.split(4, -1)
    for part, behind in zip(parts, backgrounds.split(4, -1), strict=True):
        out, alphas, tiles_per_gauss, flatten_ids, offsets = _Rasterize.apply(
            means2d,
            conics,
            part,
            opacities,
            behind.contiguous(),
            radii,
            depths.detach(),
            width,
            height,
            absgrad,
        )
        rendered.append(out)
    colors_out = rendered[0] if len(rendered) == 1 else torch.cat(rendered, -1)
    if render_mode in ("ED", "RGB+ED"):
        expected = colors_out[..., -1:] / alphas.clamp(min=1e-10)
        colors_out = torch.cat((colors_out[..., :-1], expected), -1)
    info = {
        "batch_ids": None, "camera_ids": None, "gaussian_ids": None,
        "radii": radii, "means2d": means2d, "depths": depths, "conics": conics, "opacities": opacities.expand(C, N),
        "tile_width": offsets.shape[2], "tile_height": offsets.shape[1], "tiles_per_gauss": tiles_per_gauss,
        "flatten_ids": flatten_ids, "isect_offsets": offsets, "width": width, "height": height,
        "tile_size": binning.TILE, "n_batches": 1, "n_cameras": C,
    }  # fmt: skip
    return colors_out, alphas, info
