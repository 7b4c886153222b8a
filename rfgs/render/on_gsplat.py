"""gsplat's CUDA rasterizer behind the same function as `rfgs.render.cpu`."""

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rfgs.errors import UserError


def check_available(device: torch.device) -> None:
    """Raise a UserError, before any work, if gsplat's CUDA kernels cannot run on `device`.

    gsplat finds out at its first CUDA operation, after minutes of loading, and says "cannot open shared object file".
    """
    problem = _problem()
    if problem:
        raise UserError(f"rasterizer 'gsplat': {problem}, or render on the CPU (rasterizer='cpu')")
    if device.type != "cuda":
        raise UserError(f"rasterizer 'gsplat': the splats are on {device}; move them with .to('cuda')")
    prepare()


@functools.cache
def _problem() -> str | None:
    from rfgs.models.cuda import cuda_problem, gsplat_problem

    return cuda_problem() or gsplat_problem()


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


_preparing = threading.Lock()
_prepared: set[str] = set()
"""What this process has loaded."""


def prepare(report: Callable[[str], None] = _to_stderr) -> None:
    """Have gsplat's CUDA kernels compiled, if they are not, and loaded: before a model is, since it takes minutes.

    Raises:
        UserError: torch cannot compute on the GPU, or they cannot be compiled or loaded.
    """
    from rfgs.models import machine
    from rfgs.models.card import check_card
    from rfgs.render import gsplat_build

    with _preparing:
        if "gsplat" in _prepared:
            return
        check_card(torch.device("cuda"))
        if machine.gsplat_state() != "pre-built":
            gsplat_build.load(gsplat_build.build(report))
        _prepared.add("gsplat")


def rasterization(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, **options: Any,
) -> tuple[Tensor, Tensor, dict]:  # fmt: skip
    """`gsplat.rasterization` with info per camera and Gaussian (packed=False), as densification needs it.

    The arguments and results are those of `rfgs.render.cpu.rasterization`, on a CUDA device.

    Raises:
        UserError: gsplat or its CUDA kernels cannot be had, or the tensors are not on a CUDA device.
    """
    check_available(means.device)
    import gsplat

    return gsplat.rasterization(
        means=means, quats=quats, scales=scales, opacities=opacities, colors=colors, viewmats=viewmats.to(means),
        Ks=Ks.to(means), width=width, height=height, packed=False, **options,
    )  # fmt: skip
