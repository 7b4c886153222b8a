"""Colors from real spherical harmonics, degrees 0 to 3.

The basis, its signs and its order are those of 3D Gaussian splatting (Kerbl et al. 2023) and gsplat.
"""

import torch
from torch import Tensor

C0 = 0.28209479177387814


def sh_basis(degree: int, directions: Tensor) -> Tensor:
    """The (degree + 1)^2 basis functions at unit `directions` [..., 3]: [..., K]. Degree 0 to 3."""
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, C0)]
    if degree >= 1:
        terms += [-0.48860251190292 * y, 0.48860251190292 * z, -0.48860251190292 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        terms += [
            1.092548430592079 * x * y, -1.092548430592079 * y * z, 0.9461746957575601 * zz - 0.3153915652525201,
            -1.092548430592079 * x * z, 0.5462742152960395 * (xx - yy),
        ]  # fmt: skip
    if degree >= 3:
        terms += [
            -0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z,
            y * (0.4570457994644658 - 2.285228997322329 * zz), z * (1.865881662950577 * zz - 1.119528997770346),
            x * (0.4570457994644658 - 2.285228997322329 * zz), 1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]  # fmt: skip
    return torch.stack(terms, -1)


def colors_from_sh(
    degree: int, coefficients: Tensor, means: Tensor, viewmats: Tensor, radii: Tensor
) -> Tensor:
    """Colors max(0, 0.5 + sum_k Y_k(direction) coefficient_k) of Gaussians seen from cameras.

    coefficients [N, K, 3] or [C, N, K, 3], means [N, 3], viewmats [C, 4, 4], radii [C, N, 2] -> [C, N, 3]; [N, 3] where
    all cameras see the same (degree 0 and coefficients without cameras). The gradient reaches means through the direction.
    """
    if degree == 0:
        return (0.5 + C0 * coefficients[..., 0, :]).clamp_min(0.0)
    # Camera center = -R^T t. The mask is gsplat's: a culled Gaussian gives no gradient, nor a NaN at the camera's center.
    centers = -(viewmats[:, :3, :3].mT @ viewmats[:, :3, 3:])[..., 0]
    directions = torch.where((radii > 0).all(-1, keepdim=True), means - centers[:, None], torch.ones(()))
    directions = torch.nn.functional.normalize(directions, dim=-1)
    count = (degree + 1) ** 2
    basis = sh_basis(degree, directions)
    pattern = "cnk,nkd->cnd" if coefficients.dim() == 3 else "cnk,cnkd->cnd"
    return (0.5 + torch.einsum(pattern, basis, coefficients[..., :count, :])).clamp_min(0.0)
