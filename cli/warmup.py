"""`rfgs warmup`: compile now what would otherwise be compiled during the first run."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass
class Warmup:
    """Compile the rendering kernels, once, so that the first run does not have to.

    With an NVIDIA GPU these are gsplat's too, which takes minutes. Where OpenVINO is installed, the embedded model is
    converted for it. The results are cached on disk; a second call takes a few seconds.
    """

    def run(self) -> None:
        """Reports on stderr what is being compiled."""
        from rfgs.models import machine
        from rfgs.render import warmup

        warmup(_say)
        if machine.version("openvino") is not None:
            from rfgs.priors.engine import warmup as convert

            convert()
        _compile_for_gpu()


def _compile_for_gpu() -> None:
    """gsplat's kernels, for the GPU that is here, or for those that an image of a machine is made for."""
    from rfgs.models import machine
    from rfgs.models.cuda import cuda_problem, gsplat_problem

    wanted = machine.gpus() or (machine.torch_cuda() and machine.gsplat_archs())
    if not wanted or machine.gsplat_state() in ("compiled", "pre-built"):
        return
    problem = (cuda_problem() if machine.gpus() else None) or gsplat_problem()
    if problem:
        _say(f"the GPU will not be used: {problem}")
        return
    from rfgs.render.gsplat_build import build

    build(_say)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
