"""Splats and cameras to images: our CPU rasterizer, or gsplat on CUDA, with the same meaning and the same results.

frames = render(splats, cameras, background=torch.ones(3))
frames.rgb      # [C, 3, H, W]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rfgs.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from rfgs.render.cameras import Cameras
    from rfgs.splats import Splats

__all__ = ["Frames", "prepare", "render", "warmup"]

Rasterizer = Literal["auto", "cpu", "gsplat"]


@dataclass(frozen=True, eq=False)
class Frames:
    """C rendered images."""

    rgb: Tensor
    """Colors over the background, [C, 3, H, W]; in [0, 1] where the splats' colors are."""
    alpha: Tensor
    """Opacity, [C, 1, H, W] in [0, 1]."""
    depth: Tensor | None = None
    """Expected camera z of what is seen, in world units, [C, 1, H, W]; 0 where nothing is."""
    info: dict[str, Any] = field(default_factory=dict)
    """gsplat's intermediate results with its keys: means2d [C, N, 2] (a tensor of the graph), radii [C, N, 2], ..."""

    def __len__(self) -> int:
        return len(self.rgb)

    def detach(self) -> Frames:
        """The pictures alone, without graph and info."""
        return Frames(
            self.rgb.detach(), self.alpha.detach(), None if self.depth is None else self.depth.detach()
        )


def render(
    splats: Splats,
    cameras: Cameras,
    background: Tensor | None = None,
    *,
    depth: bool = False,
    antialiased: bool = False,
    absgrad: bool = False,
    rasterizer: Rasterizer = "auto",
) -> Frames:
    """Render `splats` from `cameras`; differentiable by all parameters of the splats and by the background.

    Args:
        background: color in [0, 1], [3] or [C, 3]; None is black.
        depth: also give the expected depth.
        antialiased: scale opacities so that Gaussians smaller than a pixel do not grow (Mip-Splatting, Yu et al. 2024).
        absgrad: the backward pass sets `info["means2d"].absgrad` (AbsGS, Ye et al. 2024) for densification.
        rasterizer: "auto" takes gsplat for splats on a CUDA device and our own for splats on the CPU.

    Raises:
        UserError: on shapes that do not fit, an unknown rasterizer, or gsplat chosen where its CUDA kernels cannot run.
    """
    if rasterizer == "auto":
        rasterizer = "gsplat" if splats.means.is_cuda else "cpu"
    if rasterizer == "cpu":
        from .cpu import rasterization
    elif rasterizer == "gsplat":
        from .on_gsplat import rasterization
    else:
        raise UserError(f"rasterizer {rasterizer!r}: has to be 'auto', 'cpu' or 'gsplat'")
    coefficients = splats.sh0
    if splats.shN is not None:
        import torch

        coefficients = torch.cat((splats.sh0, splats.shN), dim=1)
    image, alpha, info = rasterization(
        splats.means,
        splats.quats,
        splats.scales,
        splats.opacities,
        coefficients,
        cameras.viewmats,
        cameras.Ks,
        cameras.width,
        cameras.height,
        sh_degree=splats.sh_degree,
        backgrounds=_backgrounds(background, len(cameras.viewmats), splats.means),
        render_mode="RGB+ED" if depth else "RGB",
        rasterize_mode="antialiased" if antialiased else "classic",
        absgrad=absgrad,
    )
    image = image.permute(0, 3, 1, 2)
    return Frames(image[:, :3], alpha.permute(0, 3, 1, 2), image[:, 3:] if depth else None, info)


def _backgrounds(background: Tensor | None, count: int, like: Tensor) -> Tensor | None:
    """[3] or [C, 3] -> [C, 3] on the splats' device."""
    if background is None:
        return None
    if tuple(background.shape) not in ((3,), (count, 3)):
        raise UserError(f"background has the shape {list(background.shape)}, expected [3] or [{count}, 3]")
    return background.to(like).expand(count, 3)


def prepare(device: str, report: Callable[[str], None]) -> None:
    """Have what renders on `device` compiled before other work; on a CPU the kernels do so at their first call, in seconds.

    Raises:
        UserError: gsplat's CUDA kernels cannot be compiled here.
    """
    if device == "cuda":
        from .on_gsplat import prepare as prepare_gsplat

        prepare_gsplat(report)


def warmup(report: Callable[[str], None] | None = None) -> None:
    """Compile the CPU rasterizer's kernels now, about 10 s once per machine, and keep them on disk.

    `report` gets a line per kernel with its seconds; without it there is one line on stderr, and none if all are kept.
    """
    from . import bin, composite, jit, project

    kernels = [
        k for module in (project, bin, composite) for k in vars(module).values() if isinstance(k, jit.Kernel)
    ]
    for number, kernel in enumerate(kernels, 1):
        start = time.perf_counter()
        if report is None:
            kernel.compile()
        else:
            kernel.compile(report)
            report(f"kernel {number}/{len(kernels)}: {kernel.name}, {time.perf_counter() - start:.1f} s")
