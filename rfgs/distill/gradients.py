"""Gradients that are not finite: skipped, so that one overflow of a model in half precision does not end a run."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rfgs.guidance.common import finite


class Skipped:
    """Takes entries of gradients that are not finite for 0, and counts them, without waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        """How many so far, 0-d."""

    def watch(self, x: Tensor) -> Tensor:
        """x itself; what comes back through it in the backward pass is finite."""
        x.register_hook(self.finite)
        return x

    def clear(self, parameters: Iterable[Tensor]) -> None:
        """Between backward pass and optimizer: its gradients are finite."""
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = self.finite(parameter.grad)

    def finite(self, gradient: Tensor) -> Tensor:
        """The same with 0 for what is not finite (`rfgs.guidance.common.finite`)."""
        clean = finite(gradient)
        self.count += (clean != gradient).sum()
        return clean


def overflow(count: int, dtype: str | None) -> str:
    """What a user is told of entries that were not finite; `dtype` is the network's, such as "float16"."""
    remedy = "; --dtype bfloat16 overflows less" if dtype == "float16" else ""
    entries = f"{count} entries of gradients were" if count > 1 else "1 entry of a gradient was"
    return f"{entries} not finite, and taken for 0{remedy}"
