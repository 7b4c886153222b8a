"""Gradients that are not finite: skipped, so that one overflow of a model in half precision does not end a run."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Skipped:
    """Takes entries of gradients that are not finite for 0, and counts them, without waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        """How many so far, 0-d."""

    def watch(self, x: Tensor) -> Tensor:
        """x itself; what comes back through it in the backward pass is finite."""
        x.register_hook(self._finite)
        return x

    def clear(self, parameters: Iterable[Tensor]) -> None:
        """Between backward pass and optimizer: its gradients are finite."""
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = self._finite(parameter.grad)

    def _finite(self, gradient: Tensor) -> Tensor:
        finite = gradient.isfinite()
        self.count += (~finite).sum()
        return torch.where(finite, gradient, 0)
