"""Twelve splats, no two alike, and an Adam that has seen gradients: what the tests of densification start from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rfgs.distill.adam import Adam
from rfgs.splats import Splats, ball

N = 12


def some_splats(seed: int = 3) -> Splats:
    """No two alike in anything."""
    generator = torch.Generator().manual_seed(seed)
    splats = ball(N, 0.5, generator=generator)
    splats.log_scales = splats.log_scales + 0.3 * torch.randn(N, 3, generator=generator)
    splats.logit_opacities = torch.randn(N, generator=generator)
    return splats


def learned(splats: Splats) -> Adam:
    """One Adam, one group a parameter, after two steps with gradients of chance."""
    groups = [{"params": [value], "lr": 1e-3} for value in splats.parameters().values()]
    optimizer = Adam(groups, betas=(0.9, 0.999), eps=1e-8)
    two_steps(list(splats.parameters().values()), [optimizer])
    return optimizer


def two_steps(values: list[Tensor], optimizers: list[Any]) -> None:
    generator = torch.Generator().manual_seed(8)
    for _ in range(2):
        for value in values:
            value.grad = torch.randn(value.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()
