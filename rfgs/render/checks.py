"""What the CPU rasterizer takes: the first thing that does not fit is told before anything is computed."""

import torch

from rfgs.errors import UserError

MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")


def check_tensors(means, quats, scales, opacities, colors, viewmats, Ks, sh_degree, backgrounds):
    """Raise a UserError for the first tensor that does not fit."""
    N, C = len(means), len(viewmats)
    splats = {
        "means": (means, (N, 3)),
        "quats": (quats, (N, 4)),
        "scales": (scales, (N, 3)),
        "opacities": (opacities, (N,)),
    }
    cameras = {"viewmats": (viewmats, (C, 4, 4)), "Ks": (Ks, (C, 3, 3))}
    for name, (tensor, shape) in (splats | cameras).items():
        if tuple(tensor.shape) != shape:
            raise UserError(f"{name} has the shape {tuple(tensor.shape)}, expected {shape}")
    others = {"colors": (colors, None), "backgrounds": (backgrounds, None)}
    for name, (tensor, _) in (splats | cameras | others).items():
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.device.type != "cpu"):
            raise UserError(
                f"{name} is {tensor.dtype} on {tensor.device}; the CPU rasterizer takes torch.float32 on cpu "
                "(CUDA tensors go to gsplat)"
            )
    tail = (N,) if sh_degree is None else (N, colors.shape[-2])
    fits = colors.shape[:-1] in (tail, (C, *tail))
    if not fits or colors.shape[-1] == 0 or (sh_degree is not None and colors.shape[-1] != 3):
        layout = "[N, D] or [C, N, D]" if sh_degree is None else "[N, K, 3] or [C, N, K, 3]"
        raise UserError(
            f"colors has the shape {tuple(colors.shape)}, expected {layout} with N = {N}, C = {C}"
        )
    if sh_degree is not None and not (0 <= sh_degree <= 3 and (sh_degree + 1) ** 2 <= colors.shape[-2]):
        raise UserError(
            f"sh_degree {sh_degree} must be 0 to 3 and needs {(sh_degree + 1) ** 2} coefficients, colors has {colors.shape[-2]}"
        )
    if backgrounds is not None and tuple(backgrounds.shape) != (C, colors.shape[-1]):
        raise UserError(
            f"backgrounds has the shape {tuple(backgrounds.shape)}, expected {(C, colors.shape[-1])}"
        )
    if viewmats.requires_grad or Ks.requires_grad:
        raise UserError("the CPU rasterizer has no gradient by viewmats and Ks; pass them detached")


def check_modes(width, height, render_mode, rasterize_mode):
    """Raise a UserError for a mode that there is not, and for a picture without pixels."""
    if render_mode not in MODES:
        raise UserError(f"render_mode {render_mode!r} must be one of {', '.join(MODES)}")
    if rasterize_mode not in ("classic", "antialiased"):
        raise UserError(f"rasterize_mode {rasterize_mode!r} must be 'classic' or 'antialiased'")
    if width < 1 or height < 1:
        raise UserError(f"an image of {width} x {height} pixels cannot be rendered")
