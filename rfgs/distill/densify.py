"""Densification: where splats are added, removed or moved while the loop runs. Plain functions on `Splats` and their Adam.

The words and the defaults that carry over are gsplat's (Ye et al. 2025, `strategy/default.py`, `mcmc.py`), as are the
operations (`rfgs.distill.densify_ops`). What differs is what score distillation wants otherwise: its gradients never fade,
so growth is bounded by a number (`max_splats`) and not by a threshold alone, and opacities are not reset, since runs are too
short to recover. Random numbers come from a generator that is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rfgs.distill.adam import Adam
from rfgs.distill.densify_ops import duplicate, jitter, relocate, remove, sample_add, split
from rfgs.distill.settings import DensifyConfig
from rfgs.errors import UserError
from rfgs.guidance.common import finite
from rfgs.guidance.share import Share
from rfgs.priors.sending import send
from rfgs.render import Frames
from rfgs.settings import check, declared
from rfgs.splats import Splats


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
    """Whether the renderer has to keep absolute gradients by the centers in the image."""
    return config.densify in ("threshold", "quantile")


def densify(
    splats: Splats,
    optimizer: Adam,
    growth: Growth,
    frames: Frames,
    config: DensifyConfig,
    *,
    index: int,
    steps: int,
    generator: torch.Generator,
    share: Share = Share(),  # noqa: B008, it is frozen.
) -> Splats:
    """What densification does after step `index` (1-based) of `steps`: watch, and now and then add, remove and move.

    Args:
        optimizer: Adam with one group a parameter, in the order of `Splats.parameters`; its tensors and moments follow.
        growth: changed in place.
        frames: the step's views, after the backward pass; of several processes, this one's.
        share: which of the step's views these are.

    Returns:
        The splats to go on with; the same object where nothing was added or removed.

    Raises:
        UserError: no such strategy, or settings that are not valid.
    """
    if config.densify == "none":
        return splats
    _check(config)
    begin, end = (round(part * steps) for part in config.densify_range)
    in_range = begin < index <= end
    if config.densify == "mcmc":
        if in_range and index % config.densify_every == 0:
            splats = mcmc_round(splats, optimizer, config, generator)
        jitter(splats, config.mcmc_noise * optimizer.param_groups[0]["lr"], generator)
        return splats
    if not in_range:
        return splats
    if wants_absgrad(config):
        watch(growth, frames, share)
    if index % config.densify_every:
        return splats
    gradients = (
        mean_gradients(growth) if wants_absgrad(config) else steady_gradients(optimizer, config.grow_snr)
    )
    splats = gradient_round(splats, optimizer, gradients, config, generator)
    growth.grad2d = growth.count = None
    return splats


def watch(growth: Growth, frames: Frames, share: Share = Share()) -> None:  # noqa: B008, it is frozen.
    """Add the views' absolute gradients to what was seen, where a splat was seen at all; as gsplat's `_update_state`."""
    info = frames.info
    count, _, height, width = frames.rgb.shape
    cameras = share.total(count)
    # The loss is a mean over views, so that each one's share is made independent of their number.
    unit = send(torch.tensor([width / 2 * cameras, height / 2 * cameras]), info["means2d"].device)
    norms = finite((info["means2d"].absgrad * unit).norm(dim=-1))
    seen = (info["radii"] > 0).all(dim=-1)
    if growth.grad2d is None or growth.count is None or len(growth.grad2d) != norms.shape[1]:
        growth.grad2d, growth.count = norms.new_zeros(norms.shape[1]), norms.new_zeros(norms.shape[1])
    sums = [torch.where(seen, norms, 0).sum(dim=0), seen.sum(dim=0).to(norms)]
    share.sum(sums)
    growth.grad2d += sums[0]
    growth.count += sums[1]


def mean_gradients(growth: Growth) -> Tensor:
    """Norm of the gradient of each splat, mean over the views that saw it, [N]; 0 for one never seen."""
    if growth.grad2d is None or growth.count is None:
        raise UserError("densify: no gradients were watched yet")
    return growth.grad2d / growth.count.clamp_min(1)


def steady_gradients(optimizer: Adam, least: float) -> Tensor:
    """Norm of each center's mean gradient over the last steps, [N]; 0 where it is less than `least` of its root mean square.

    Noise of the guidance cancels in the mean and not in the norms that others add up, so that splats are added where the
    views agree that something moves, and no more once nothing does (CAdam, Park et al. 2026, arXiv 2605.20872, from its
    abstract, since no code is published). Both moments are those that Adam keeps of the centers, so nothing is watched besides.
    """
    state = optimizer.state[optimizer.param_groups[0]["params"][0]]
    step = float(state["step"])
    beta1, beta2 = optimizer.param_groups[0]["betas"]
    mean = (state["exp_avg"] / (1 - beta1**step)).norm(dim=-1)
    size = (state["exp_avg_sq"] / (1 - beta2**step)).sum(dim=-1).sqrt()
    return torch.where(mean > least * size, mean, 0)


def gradient_round(
    splats: Splats,
    optimizer: Adam,
    gradients: Tensor,
    config: DensifyConfig,
    generator: torch.Generator,
) -> Splats:
    """Grow where gradients [N] are high (Kerbl et al. 2023; absolute ones: AbsGS, Ye et al. 2024), then prune."""
    level = config.grow_gradient
    if config.densify != "threshold":
        level = torch.quantile(gradients, config.grow_quantile).item()
    grow = highest(gradients, gradients > level, config.max_splats - len(splats))
    large = splats.scales.detach().amax(dim=-1) > config.split_scale
    twice = grow & ~large
    added = int(twice.sum())
    splats = duplicate(splats, optimizer, twice)
    # What was just duplicated is not split.
    halves = torch.cat([grow & large, grow.new_zeros(added)])
    splats = split(splats, optimizer, halves, generator)
    useless = splats.opacities.detach() < config.prune_opacity
    useless |= splats.scales.detach().amax(dim=-1) > config.prune_scale
    return splats if useless.all() else remove(splats, optimizer, useless)


def highest(values: Tensor, mask: Tensor, room: int) -> Tensor:
    """Those of a mask [N] with the highest values [N], no more than `room` of them."""
    if int(mask.sum()) <= room:
        return mask
    kept = torch.zeros_like(mask)
    best = torch.where(mask, values, -math.inf).topk(max(room, 0)).indices
    kept[best] = True
    return kept


def mcmc_round(splats: Splats, optimizer: Adam, config: DensifyConfig, generator: torch.Generator) -> Splats:
    """Move faint splats to where opacity is, and add some there (Kheradmand et al. 2024, arXiv 2404.09591)."""
    dead = splats.opacities.detach() <= config.prune_opacity
    if dead.any() and not dead.all():
        splats = relocate(splats, optimizer, dead, config.prune_opacity, generator)
    target = min(config.max_splats, int((1 + config.mcmc_growth) * len(splats)))
    return sample_add(splats, optimizer, max(0, target - len(splats)), config.prune_opacity, generator)


def _check(config: DensifyConfig) -> None:
    checked = ("densify", "densify_every", "grow_quantile")
    check({name: getattr(config, name) for name in checked}, declared(DensifyConfig))
