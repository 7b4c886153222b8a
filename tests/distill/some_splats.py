"""Twelve splats, no two alike, and an Adam that has seen gradients: what the tests of densification start from."""

from __future__ import annotations

import torch
from torch import Tensor

from rfgs.splats import Splats, ball

N = 12


def some_splats(seed: int = 3) -> Splats:
    """No two alike in anything."""
    generator = torch.Generator().manual_seed(seed)
    splats = ball(N, 0.5, generator=generator)
    splats.log_scales = splats.log_scales + 0.3 * torch.randn(N, 3, generator=generator)
    splats.logit_opacities = torch.randn(N, generator=generator)
    return splats


def learned(splats: Splats) -> torch.optim.Optimizer:
    """One Adam, one group a parameter, after two steps with gradients of chance."""
    optimizer = torch.optim.Adam([{"params": [value]} for value in splats.parameters().values()], lr=1e-3)
    two_steps(list(splats.parameters().values()), [optimizer])
    return optimizer


def two_steps(values: list[Tensor], optimizers: list[torch.optim.Optimizer]) -> None:
    generator = torch.Generator().manual_seed(8)
    for _ in range(2):
        for value in values:
            value.grad = torch.randn(value.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()
