"""Tensors on their way to a GPU, without the CPU waiting for what the GPU still has to do."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of the CPU on `device`, and in `dtype`; an ordinary `to` would wait until the GPU has done all before it."""
    tensor = tensor.to(dtype or tensor.dtype)
    if device.type == "cuda" and torch.cuda.is_available():
        # From memory that the GPU reads by itself, whenever it comes to it.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
