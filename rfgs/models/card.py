"""What torch says of the GPU that is to be computed on, asked before anything is compiled or downloaded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rfgs.errors import UserError
from rfgs.models.cuda import card_problem

if TYPE_CHECKING:
    import torch


def check_card(device: torch.device) -> None:
    """That torch can compute on a CUDA device, with code for its compute capability; others are let through.

    Raises:
        UserError: it cannot.
    """
    if device.type != "cuda":
        return
    import torch

    try:
        problem = card_problem(torch.cuda.get_device_capability(device), torch.cuda.get_arch_list())
    except (AssertionError, RuntimeError) as error:  # No driver, no such device, a CPU build of torch.
        problem = (str(error).splitlines() or ["torch finds no GPU"])[0]
    if problem:
        raise UserError(f"device {device}: {problem}, or use the CPU")


def computes_bfloat16() -> bool:
    """Whether the GPU has units for bfloat16. Older ones emulate it, slowly, and are better off in float16."""
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)
