"""Why the GPU cannot be used, told without importing torch."""

from __future__ import annotations

from rfgs.models import machine

GSPLAT_INSTALL = "https://docs.gsplat.studio/main/#installation"


def cuda_problem() -> str | None:
    """Why torch cannot use a GPU here, with a remedy; None where it can."""
    if machine.version("torch") is None:
        return "torch is not installed; install it with `pip install torch`"
    if not machine.gpus():
        return "no NVIDIA GPU or driver is visible (nvidia-smi should list one); check the driver"
    if machine.torch_cuda() is None:
        return (
            f"torch {machine.version('torch')} is a CPU build; "
            "install one for CUDA with `pip install --force-reinstall torch`"
        )
    return None


def gsplat_problem() -> str | None:
    """Why gsplat's CUDA kernels cannot run on a machine that has a GPU, with a remedy; None where they can."""
    state = machine.gsplat_state()
    if state == "absent":
        return "gsplat is not installed; install it with `pip install gsplat`"
    if state == "no compiler":
        return (
            "gsplat has to compile its kernels and no CUDA toolkit (nvcc) is found; install the toolkit for CUDA "
            f"{machine.torch_cuda()} and set CUDA_HOME, install a pre-built gsplat ({GSPLAT_INSTALL})"
        )
    compiler = machine.nvcc()
    if state == "to be compiled" and compiler is not None:
        # torch's extension builder refuses another major release, after minutes of work have gone by.
        ours, theirs = machine.torch_cuda(), machine.nvcc_version(compiler)
        if ours and theirs and ours.split(".")[0] != theirs.split(".")[0]:
            return (
                f"torch is built for CUDA {ours} but {compiler} is {theirs}, so gsplat cannot compile; set CUDA_HOME "
                f"to a toolkit {ours}, install a pre-built gsplat ({GSPLAT_INSTALL})"
            )
    return None
