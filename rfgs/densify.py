"""Densification: where splats are added, removed or moved while the loop runs. Plain functions on `Splats` and their Adam.

The words and the defaults that carry over are gsplat's (Ye et al. 2025, `strategy/default.py`, `mcmc.py`, `ops.py`), and
`duplicate`, `split`, `remove` and `relocate` do to tensors and moments what gsplat's do. What differs is what score
distillation wants otherwise: its gradients never fade, so growth is bounded by a number (`max_splats`) and not by a
threshold alone, and opacities are not reset, since runs are too short to recover. Random numbers come from a generator
that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.errors import UserError
from rfgs.job import Densify
from rfgs.render import Frames
from rfgs.splats import Splats

MOST_COPIES = 51
"""Splats that share one place after a relocation, at most (gsplat's number)."""


@dataclass
class DensifyConfig:
    """Settings of densification, part of the loop's."""

    densify: Densify = "none"
    """Where splats are added: where the absolute image-plane gradient is above a threshold or a quantile, or (mcmc) where
    opacity is, to which faint splats are moved too."""
    max_splats: int = 10_000
    """No strategy adds splats beyond this number; one that starts above it stays there."""
    densify_every: int = 25
    """Steps between two rounds; gsplat's 100 are for runs of 30,000."""
    densify_range: tuple[float, float] = (0.1, 0.7)
    """Part of the run in which there are rounds; the rest is left for what was added to settle."""
    grow_gradient: float = 30.0
    """threshold: norm of the absolute gradient by the centre in the image, in gsplat's units (half the image is 1). It
    goes with the scale of the loss, so that gsplat's 8e-4 for photographs says nothing here: with rfds-rev on tiny-sd3
    the 95th percentile was 16 to 40 in a draft run."""
    grow_quantile: float = 0.95
    """quantile: the part of the splats with smaller gradients, which are left alone."""
    split_scale: float = 0.03
    """World units: splats whose longest axis is above it are split in two, smaller ones duplicated."""
    prune_opacity: float = 0.005
    """Splats fainter than this are removed, or with mcmc moved."""
    prune_scale: float = 0.5
    """World units: splats with a longer axis are removed (threshold and quantile)."""
    mcmc_growth: float = 0.05
    """Part of the splats that mcmc adds in a round."""
    mcmc_noise: float = 1e4
    """Random walk of nearly transparent splats, in multiples of the learning rate of centres; 80 / 8e-3, where 80 is what
    gsplat multiplies their covariance with."""


@dataclass
class Growth:
    """Gradients that were seen since the last round."""

    grad2d: Tensor | None = None
    """Sum of the norms over the views in which a splat was seen, [N]."""
    count: Tensor | None = None
    """Number of these views, [N]."""

    def state(self) -> dict[str, Tensor]:
        """A copy, empty where nothing was seen."""
        if self.grad2d is None or self.count is None:
            return {}
        return {"grad2d": self.grad2d.clone(), "count": self.count.clone()}

    @staticmethod
    def of(state: dict[str, Tensor], device: torch.device) -> Growth:
        """The inverse of `state`."""
        return Growth(**{name: value.to(device) for name, value in state.items()})


def wants_absgrad(config: DensifyConfig) -> bool:
    """Whether the renderer has to keep absolute gradients by the centres in the image."""
    return config.densify in ("threshold", "quantile")


def densify(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    growth: Growth,
    frames: Frames,
    config: DensifyConfig,
    *,
    index: int,
    steps: int,
    generator: torch.Generator,
) -> Splats:
    """What densification does after step `index` (1-based) of `steps`: watch, and now and then add, remove and move.

    Args:
        optimiser: Adam with one group a parameter, in the order of `Splats.parameters`; its tensors and moments follow.
        growth: changed in place.
        frames: the step's views, after the backward pass.

    Returns:
        The splats to go on with; the same object where nothing was added or removed.

    Raises:
        UserError: no such strategy, or settings that cannot be.
    """
    if config.densify == "none":
        return splats
    _check(config)
    begin, end = (round(part * steps) for part in config.densify_range)
    in_range = begin < index <= end
    if config.densify == "mcmc":
        if in_range and index % config.densify_every == 0:
            splats = mcmc_round(splats, optimiser, config, generator)
        jitter(splats, config.mcmc_noise * optimiser.param_groups[0]["lr"], generator)
        return splats
    if not in_range:
        return splats
    watch(growth, frames)
    if index % config.densify_every:
        return splats
    splats = gradient_round(splats, optimiser, mean_gradients(growth), config, generator)
    growth.grad2d = growth.count = None
    return splats


def watch(growth: Growth, frames: Frames) -> None:
    """Add the views' absolute gradients to what was seen, where a splat was seen at all; as gsplat's `_update_state`."""
    info = frames.info
    cameras, _, height, width = frames.rgb.shape
    # The loss is a mean over views, so that each one's share is made independent of their number.
    unit = torch.tensor([width / 2 * cameras, height / 2 * cameras], device=info["means2d"].device)
    norms = (info["means2d"].absgrad * unit).norm(dim=-1)
    seen = (info["radii"] > 0).all(dim=-1)
    if growth.grad2d is None or growth.count is None or len(growth.grad2d) != norms.shape[1]:
        growth.grad2d, growth.count = norms.new_zeros(norms.shape[1]), norms.new_zeros(norms.shape[1])
    growth.grad2d += torch.where(seen, norms, 0).sum(dim=0)
    growth.count += seen.sum(dim=0)


def mean_gradients(growth: Growth) -> Tensor:
    """Norm of the gradient of each splat, mean over the views that saw it, [N]; 0 for one never seen."""
    if growth.grad2d is None or growth.count is None:
        raise UserError("densify: no gradients were watched yet")
    return growth.grad2d / growth.count.clamp_min(1)


def gradient_round(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    gradients: Tensor,
    config: DensifyConfig,
    generator: torch.Generator,
) -> Splats:
    """Grow where gradients [N] are high (Kerbl et al. 2023; absolute ones: AbsGS, Ye et al. 2024), then prune."""
    level = config.grow_gradient
    if config.densify == "quantile":
        level = torch.quantile(gradients, config.grow_quantile).item()
    grow = most(gradients, gradients > level, config.max_splats - len(splats))
    large = splats.scales.detach().amax(dim=-1) > config.split_scale
    twice = grow & ~large
    added = int(twice.sum())
    splats = duplicate(splats, optimiser, twice)
    # What was just duplicated is not split.
    halves = torch.cat([grow & large, grow.new_zeros(added)])
    splats = split(splats, optimiser, halves, generator)
    useless = splats.opacities.detach() < config.prune_opacity
    useless |= splats.scales.detach().amax(dim=-1) > config.prune_scale
    return splats if useless.all() else remove(splats, optimiser, useless)


def most(values: Tensor, mask: Tensor, room: int) -> Tensor:
    """Those of a mask [N] with the highest values [N], no more than `room` of them."""
    if int(mask.sum()) <= room:
        return mask
    kept = torch.zeros_like(mask)
    best = torch.where(mask, values, -math.inf).topk(max(room, 0)).indices
    kept[best] = True
    return kept


def mcmc_round(
    splats: Splats, optimiser: torch.optim.Optimizer, config: DensifyConfig, generator: torch.Generator
) -> Splats:
    """Move faint splats to where opacity is, and add some there (Kheradmand et al. 2024, arXiv 2404.09591)."""
    dead = splats.opacities.detach() <= config.prune_opacity
    if dead.any() and not dead.all():
        splats = relocate(splats, optimiser, dead, config.prune_opacity, generator)
    target = min(config.max_splats, int((1 + config.mcmc_growth) * len(splats)))
    return sample_add(splats, optimiser, max(0, target - len(splats)), config.prune_opacity, generator)


# --- operations, as in gsplat's strategy/ops.py -----------------------------------------------------------------------


def duplicate(splats: Splats, optimiser: torch.optim.Optimizer, mask: Tensor) -> Splats:
    """Append a copy of the splats in a mask [N]; the copies' moments are zero."""
    chosen = mask.nonzero()[:, 0]
    return _replace(
        splats,
        optimiser,
        lambda name, value: torch.cat([value, value[chosen]]),
        lambda moment: torch.cat([moment, torch.zeros_like(moment[chosen])]),
    )


def split(
    splats: Splats, optimiser: torch.optim.Optimizer, mask: Tensor, generator: torch.Generator
) -> Splats:
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

    return _replace(splats, optimiser, halves, moments)


def remove(splats: Splats, optimiser: torch.optim.Optimizer, mask: Tensor) -> Splats:
    """Drop the splats in a mask [N]."""
    kept = (~mask).nonzero()[:, 0]
    return _replace(splats, optimiser, lambda name, value: value[kept], lambda moment: moment[kept])


def relocate(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
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
    logits, log_scales = _shared(splats, hosts, min_opacity)

    def moved(name: str, value: Tensor) -> Tensor:
        value = value.clone()
        if name == "logit_opacities":
            value[hosts] = logits
        elif name == "log_scales":
            value[hosts] = log_scales
        value[dead] = value[hosts]
        return value

    return _replace(splats, optimiser, moved, lambda moment: moment.index_fill(0, hosts, 0))


def sample_add(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    count: int,
    min_opacity: float,
    generator: torch.Generator,
) -> Splats:
    """Append `count` splats on top of others, drawn by opacity; these keep their moments, the new ones start at zero."""
    if count == 0:
        return splats
    hosts = _draw(splats.opacities.detach(), count, generator)
    logits, log_scales = _shared(splats, hosts, min_opacity)

    def added(name: str, value: Tensor) -> Tensor:
        value = value.clone()
        if name == "logit_opacities":
            value[hosts] = logits
        elif name == "log_scales":
            value[hosts] = log_scales
        return torch.cat([value, value[hosts]])

    return _replace(
        splats,
        optimiser,
        added,
        lambda moment: torch.cat([moment, moment.new_zeros(count, *moment.shape[1:])]),
    )


@torch.no_grad()
def jitter(splats: Splats, size: float, generator: torch.Generator) -> None:
    """Move centres in place by normal noise shaped by each splat's covariance, times `size`, where opacity is under 0.005."""
    gate = torch.sigmoid(100 * ((1 - splats.opacities) - 0.995))
    noise = torch.randn(len(splats), 3, generator=generator).to(splats.means) * gate[:, None] * size
    axes = rotations(splats.quats) * splats.scales[:, None, :]
    splats.means.add_(torch.einsum("nij,nkj,nk->ni", axes, axes, noise))


def relocation(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacities [M] and scales [M, 3] of `copies` [M] splats in one place that together look like one of those given.

    Equation 9 of Kheradmand et al. 2024: opacity multiplies up, and the integral along a line through the centre stays.
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
    """Rotation matrices [N, 3, 3] of quaternions (w, x, y, z) [N, 4], normalised here."""
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


def _shared(splats: Splats, hosts: Tensor, min_opacity: float) -> tuple[Tensor, Tensor]:
    """Logit opacities [M] and log scales [M, 3] of hosts [M] once they share their places with those drawn to them."""
    copies = torch.bincount(hosts, minlength=len(splats))[hosts] + 1
    opacities, scales = relocation(splats.opacities.detach()[hosts], splats.scales.detach()[hosts], copies)
    highest = 1 - torch.finfo(torch.float32).eps
    return opacities.clamp(min_opacity, highest).logit(), scales.log()


@torch.no_grad()
def _replace(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    value_of: Callable[[str, Tensor], Tensor],
    moment_of: Callable[[Tensor], Tensor],
) -> Splats:
    """New parameters in the splats and in the optimiser, with new moments; the count of steps stays."""
    new: dict[str, Tensor] = {}
    for (name, old), group in zip(splats.parameters().items(), optimiser.param_groups, strict=True):
        new[name] = value_of(name, old.detach()).clone().requires_grad_(old.requires_grad)
        group["params"] = [new[name]]
        state: dict[str, Any] = optimiser.state.pop(old, {})
        if state:
            optimiser.state[new[name]] = {
                key: value if key == "step" else moment_of(value) for key, value in state.items()
            }
    return Splats.from_parameters(new)


def _check(config: DensifyConfig) -> None:
    if config.densify not in ("threshold", "quantile", "mcmc"):
        raise UserError(f"densify {config.densify!r}: there are none, threshold, quantile and mcmc")
    if config.densify_every < 1:
        raise UserError(f"densify_every {config.densify_every}: has to be at least 1")
    if not 0 <= config.grow_quantile <= 1:
        raise UserError(f"grow_quantile {config.grow_quantile}: has to lie between 0 and 1")
