"""Where a scene is, so that pictures show it: in our unit ball, or wherever a file from elsewhere has put it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rfgs.splats import Splats

MOST = 0.98
"""Part of the splats, by opacity, that the frame holds: captured scenes have strays far away."""
LARGEST, SMALLEST = 1.25, 0.2
"""World units: the usual view of the unit ball is kept for what reaches no farther from the origin, and is no smaller in itself,
so that all assets have one scale in pictures. Runs keep their splats within 1.2."""


def framing(splats: Splats) -> tuple[tuple[float, float, float], float]:
    """Center and radius, world units, of the ball that a picture of `splats` is to show.

    The unit ball about the origin where the splats fill it; else the ball of what is there, where quantiles are weighted by
    opacity, so that neither strays nor haze move it. Splats that are not finite do not count.
    """
    means, opacities = splats.means.detach(), splats.opacities.detach()
    # What is seen of a splat reaches about two standard deviations.
    sizes = 2 * splats.scales.detach().mean(dim=-1)
    weights = torch.where(means.isfinite().all(dim=-1) & sizes.isfinite(), opacities, 0.0).nan_to_num(0.0)
    if not bool(weights.sum() > 0):
        return (0.0, 0.0, 0.0), 1.0
    shows = weights > 0
    means, sizes, weights = means[shows], sizes[shows], weights[shows]
    low, high = (
        torch.tensor([_quantile(axis, weights, part) for axis in means.unbind(-1)])
        for part in (1 - MOST, MOST)
    )
    center = (low + high) / 2
    radius = _quantile((means - center.to(means)).norm(dim=-1) + sizes, weights, MOST)
    reach = _quantile(means.norm(dim=-1) + sizes, weights, MOST)
    if reach <= LARGEST and radius >= SMALLEST:
        return (0.0, 0.0, 0.0), 1.0
    x, y, z = center.tolist()
    return (x, y, z), max(radius, 1e-12)


def framed(splats: Splats) -> Splats:
    """The splats moved and scaled so that `framing` of them is the unit ball; themselves where it is already.

    Moving the splats rather than the cameras keeps them away from the nearest plane of the renderer, however small.
    """
    center, radius = framing(splats)
    if (center, radius) == ((0.0, 0.0, 0.0), 1.0):
        return splats
    return moved(splats, center, radius)


def moved(splats: Splats, center: tuple[float, float, float], radius: float) -> Splats:
    """The splats moved and scaled so that the ball of `radius` about `center` becomes the unit ball."""
    return replace(
        splats,
        means=(splats.means - splats.means.new_tensor(center)) / radius,
        log_scales=splats.log_scales - splats.log_scales.new_tensor(radius).log(),
    )


def _quantile(values: Tensor, weights: Tensor, part: float) -> float:
    """The least of `values` [N] that at least this `part` of the sum of `weights` [N] does not exceed."""
    order = values.argsort()
    heaped = weights[order].double().cumsum(0)
    index = int(torch.searchsorted(heaped, heaped[-1] * part))
    return float(values[order[min(index, len(values) - 1)]])
