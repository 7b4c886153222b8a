"""Why the GPU cannot be used, told without importing torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rfgs.models import machine

GSPLAT_INSTALL = "https://docs.gsplat.studio/main/#installation"


def cuda_problem() -> str | None:
    """Why torch cannot use a GPU here, with a remedy; None where it can."""
    if machine.version("torch") is None:
        return "torch is not installed; install it with `pip install torch`"
    if not machine.gpus():
        return "no NVIDIA GPU or driver is visible (nvidia-smi should list one); check the driver"
    ours = machine.torch_cuda()
    if ours is None:
        return (
            f"torch {machine.version('torch')} is a CPU build; "
            "install one for CUDA with `pip install --force-reinstall torch`"
        )
    theirs = machine.driver_cuda()
    # Within a major release, older drivers run what was built for newer ones.
    if theirs and int(theirs.partition(".")[0]) < int(ours.partition(".")[0]):
        return (
            f"torch {machine.version('torch')} is built for CUDA {ours} and the NVIDIA driver supports no more than "
            f"{theirs}; update the driver, or install a torch for CUDA {theirs.split('.')[0]} (https://pytorch.org)"
        )
    return None


def card_problem(capability: tuple[int, int], archs: Sequence[str]) -> str | None:
    """Why a torch that is built for `archs` has no code for a GPU of this compute capability; None where it has.

    Args:
        archs: as `torch.cuda.get_arch_list()` gives them, such as "sm_90" for machine code and "compute_90" for code that the
            driver translates; empty if unknown.
    """
    for arch in archs:
        kind, _, digits = arch.partition("_")
        built = re.fullmatch(r"(\d+)(\d)([a-z]?)", digits)
        if built is None:
            return None  # A naming of tomorrow: torch itself will tell.
        major, minor, only = int(built[1]), int(built[2]), built[3]
        if only:
            fits = (major, minor) == capability
        elif kind == "compute":
            fits = (major, minor) <= capability
        else:
            fits = major == capability[0] and minor <= capability[1]
        if fits:
            return None
    if not archs:
        return None
    return (
        f"the GPU has compute capability {capability[0]}.{capability[1]} and torch {machine.version('torch')} has no code "
        f"for it (only {' '.join(archs)}); install a torch that has (https://pytorch.org)"
    )


def gsplat_problem() -> str | None:
    """Why gsplat's CUDA kernels cannot run on a machine that has a GPU, with a remedy; None where they can."""
    state = machine.gsplat_state()
    if state == "absent":
        return "gsplat is not installed; install it with `pip install gsplat`"
    ours = machine.torch_cuda()
    if state == "pre-built":
        return _other_build(machine.version("gsplat"), machine.version("torch"), ours)
    if state == "no compiler":
        return (
            f"gsplat has to compile its kernels and no CUDA toolkit (nvcc) is found; {_remedy(ours)}, "
            f"install a pre-built gsplat ({GSPLAT_INSTALL})"
        )
    compiler = machine.nvcc()
    if state == "to be compiled" and compiler is not None:
        # torch's extension builder refuses another major release, after minutes of work have gone by.
        theirs = machine.nvcc_version(compiler)
        if ours and theirs and ours.split(".")[0] != theirs.split(".")[0]:
            return (
                f"torch is built for CUDA {ours} but {compiler} is {theirs}, so gsplat cannot compile; {_remedy(ours)}, "
                f"install a pre-built gsplat ({GSPLAT_INSTALL})"
            )
    return None


def toolkit() -> str | None:
    """What to ask the package index for so that gsplat's kernels can be compiled here; None if nothing is missing, or
    there is no such package for the CUDA that torch is built for."""
    ours = machine.torch_cuda()
    return _toolkit(ours) if ours and machine.gsplat_state() == "no compiler" else None


def _toolkit(cuda: str) -> str | None:
    """From CUDA 13 on the compiler is a package, as are the libraries that torch comes with."""
    if int(cuda.partition(".")[0]) < 13:
        return None
    return f"cuda-toolkit[cccl,crt,nvcc,nvvm]=={'.'.join(cuda.split('.')[:2])}.*"


def _remedy(cuda: str | None) -> str:
    package = _toolkit(cuda) if cuda else None
    return (
        f"`pip install '{package}'`" if package else f"install the toolkit for CUDA {cuda} and set CUDA_HOME"
    )


def _other_build(gsplat: str | None, torch: str | None, cuda: str | None) -> str | None:
    """Why a pre-built gsplat, whose version says what it was built for, such as 1.5.3+pt24cu124, is not for this torch."""
    built = re.search(r"\+pt(\d)(\d+)cu(\d+)(\d)$", gsplat or "")
    if built is None or torch is None or cuda is None:
        return None
    theirs = (f"{built[1]}.{built[2]}", f"{built[3]}.{built[4]}")
    if torch.split(".")[:2] == theirs[0].split(".") and cuda.split(".")[0] == built[3]:
        return None
    return (
        f"gsplat {gsplat} is built for torch {theirs[0]} and CUDA {theirs[1]}, and torch is {torch} for CUDA {cuda}; "
        f"install another pre-built one ({GSPLAT_INSTALL}), or one that compiles here with "
        "`pip install --force-reinstall --no-deps gsplat`"
    )
