"""What densification does to splats and to their Adam at once: copy, halve, drop, move, add, shake.

`duplicate`, `split`, `remove`, `relocate` and `sample_add` do to tensors and moments what those of gsplat's `strategy/ops.py`
do; random numbers come from a generator that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.distill.adam import Adam
from rfgs.priors.sending import send
from rfgs.splats import Splats

MOST_COPIES = 51
"""Splats that share one place after a relocation, at most (gsplat's number)."""


def duplicate(splats: Splats, optimizer: Adam, mask: Tensor) -> Splats:
    """Append a copy of the splats in a mask [N]; the copies' moments are zero."""
    chosen = mask.nonzero()[:, 0]
    return _replace(
        splats,
        optimizer,
        lambda name, value: torch.cat([value, value[chosen]]),
        lambda moment: torch.cat([moment, torch.zeros_like(moment[chosen])]),
    )


def split(splats: Splats, optimizer: Adam, mask: Tensor, generator: torch.Generator) -> Splats:
    """Replace each splat in a mask [N] by two at the end, drawn from it as from a density and 1.6 times smaller."""
    chosen, rest = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
    scales = splats.scales.detach()[chosen]
    noise = torch.randn(2, len(chosen), 3, generator=generator).to(scales)
    offsets = torch.einsum("nij,nj,bnj->bni", rotations(splats.quats.detach()[chosen]), scales, noise)

    def halves(name: str, value: Tensor) -> Tensor:
        if name == "means":
            new = (value[chosen] + offsets).reshape(-1, 3)
        elif name == "log_scales":
            new = (scales / 1.6).log().repeat(2, 1)
        else:
            new = value[chosen].repeat(2, *[1] * (value.dim() - 1))
        return torch.cat([value[rest], new])

    def moments(moment: Tensor) -> Tensor:
        return torch.cat([moment[rest], moment.new_zeros(2 * len(chosen), *moment.shape[1:])])

    return _replace(splats, optimizer, halves, moments)


def remove(splats: Splats, optimizer: Adam, mask: Tensor) -> Splats:
    """Drop the splats in a mask [N]."""
    kept = (~mask).nonzero()[:, 0]
    return _replace(splats, optimizer, lambda name, value: value[kept], lambda moment: moment[kept])


def relocate(
    splats: Splats,
    optimizer: Adam,
    mask: Tensor,
    min_opacity: float,
    generator: torch.Generator,
) -> Splats:
    """Move the splats in a mask [N] onto others, drawn by opacity, and make these fainter so that the picture stays.

    The moments of those that were moved to become zero; the moved ones keep theirs, as in gsplat.
    """
    dead, alive = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
    opacities = splats.opacities.detach()
    hosts = alive[_draw(opacities[alive], len(dead), generator)]
    shared = _sharing(splats, hosts, min_opacity)

    def moved(name: str, value: Tensor) -> Tensor:
        value = shared(name, value)
        value[dead] = value[hosts]
        return value

    return _replace(splats, optimizer, moved, lambda moment: moment.index_fill(0, hosts, 0))


def sample_add(
    splats: Splats,
    optimizer: Adam,
    count: int,
    min_opacity: float,
    generator: torch.Generator,
) -> Splats:
    """Append `count` splats on top of others, drawn by opacity; these keep their moments, the new ones start at zero."""
    if count == 0:
        return splats
    hosts = _draw(splats.opacities.detach(), count, generator)
    shared = _sharing(splats, hosts, min_opacity)

    def added(name: str, value: Tensor) -> Tensor:
        value = shared(name, value)
        return torch.cat([value, value[hosts]])

    return _replace(
        splats,
        optimizer,
        added,
        lambda moment: torch.cat([moment, moment.new_zeros(count, *moment.shape[1:])]),
    )


@torch.no_grad()
def jitter(splats: Splats, size: float, generator: torch.Generator) -> None:
    """Move centers in place by normal noise shaped by each splat's covariance, times `size`, where opacity is under 0.005."""
    gate = torch.sigmoid(100 * ((1 - splats.opacities) - 0.995))
    noise = send(torch.randn(len(splats), 3, generator=generator), splats.device) * gate[:, None] * size
    axes = rotations(splats.quats) * splats.scales[:, None, :]
    splats.means.add_(torch.einsum("nij,nkj,nk->ni", axes, axes, noise))


def relocation(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacities [M] and scales [M, 3] of `copies` [M] splats in one place that together look like one of those given.

    Equation 9 of Kheradmand et al. 2024: opacity multiplies up, and the integral along a line through the center stays.
    In float64, since the sum alternates.
    """
    copies = copies.clamp(1, MOST_COPIES)
    old = opacities.double()
    new = 1 - (1 - old) ** (1 / copies)
    total = torch.zeros_like(old)
    for i in range(1, MOST_COPIES + 1):
        layer = torch.zeros_like(old)
        for k in range(i):
            layer += math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
        total += torch.where(copies >= i, layer, 0)
        if i >= int(copies.max() if len(copies) else 1):
            break
    return new.to(opacities), (old / total)[:, None].to(scales) * scales


def rotations(quats: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions (w, x, y, z) [N, 4], normalized here."""
    w, x, y, z = F.normalize(quats, dim=-1).unbind(dim=-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    # On the CPU, where the generator lives, so that devices agree.
    return torch.multinomial(weights.cpu(), count, replacement=True, generator=generator).to(weights.device)


def _sharing(splats: Splats, hosts: Tensor, min_opacity: float) -> Callable[[str, Tensor], Tensor]:
    """Makes copies of parameters, by name and value, in which hosts [M] share their places with those drawn to them."""
    copies = torch.bincount(hosts, minlength=len(splats))[hosts] + 1
    opacities, scales = relocation(splats.opacities.detach()[hosts], splats.scales.detach()[hosts], copies)
    highest = 1 - torch.finfo(torch.float32).eps
    fainter = {"logit_opacities": opacities.clamp(min_opacity, highest).logit(), "log_scales": scales.log()}

    def shared(name: str, value: Tensor) -> Tensor:
        value = value.clone()
        if name in fainter:
            value[hosts] = fainter[name]
        return value

    return shared


@torch.no_grad()
def _replace(
    splats: Splats,
    optimizer: Adam,
    value_of: Callable[[str, Tensor], Tensor],
    moment_of: Callable[[Tensor], Tensor],
) -> Splats:
    """New parameters in the splats and in the optimizer, with new moments; the count of steps stays."""
    new: dict[str, Tensor] = {}
    for (name, old), group in zip(splats.parameters().items(), optimizer.param_groups, strict=True):
        new[name] = value_of(name, old.detach()).clone().requires_grad_(old.requires_grad)
        group["params"] = [new[name]]
        state: dict[str, Any] = optimizer.state.pop(old, {})
        if state:
            optimizer.state[new[name]] = {
                key: value if key == "step" else moment_of(value) for key, value in state.items()
            }
    return Splats.from_parameters(new)
