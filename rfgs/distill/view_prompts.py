"""What the prior is told about each view: the prompt with words for the side it shows, switched, mixed, or pushed apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rfgs.guidance.perp_neg import Others
from rfgs.priors.base import Condition, Prior
from rfgs.priors.sending import send
from rfgs.render.cameras import Cameras, view_words

SIDES = ("front view", "left side view", "back view", "right side view", "overhead view")
OVERHEAD_FROM, OVERHEAD_TO = 50.0, 70.0
"""Degrees of elevation between which a mixed prompt goes over to the view from above, around `view_words`' 60."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """B views, embedded."""

    condition: Condition
    """What each should show."""
    negative: Condition
    plain: Condition
    """The prompt itself, for all."""
    others: Others | None
    """What each should not look like, with Perp-Neg."""


class Prompter:
    """Embeds what the views of one run should show; the prior remembers what it has embedded."""

    def __init__(self, prior: Prior) -> None:
        self._embed = prior.embed

    def __call__(
        self,
        prompt: str,
        negative_prompt: str,
        cameras: Cameras,
        *,
        smooth: bool = False,
        perp_neg: bool = False,
    ) -> Prompts:
        """The prompts of some views.

        Args:
            smooth: mix the embeddings of neighboring sides by the angle, instead of switching from one to the next.
            perp_neg: push each view away from looking like the sides it does not show; its positive prompt is then
                mixed too, as in the method's own 3D experiments.
        """
        count = len(cameras)
        azimuths, elevations = cameras.azimuths, cameras.elevations
        if smooth or perp_neg:
            condition = mixed(
                self._embed([f"{prompt}, {side}" for side in SIDES]), side_weights(azimuths, elevations)
            )
        else:
            condition = self._embed([f"{prompt}, {word}" for word in view_words(azimuths, elevations)])
        others = None
        if perp_neg:
            sides, weights = other_sides(azimuths, elevations)
            conditions = [
                self._embed([f"{prompt}, {side}" for side in column]) for column in zip(*sides, strict=True)
            ]
            others = Others(tuple(conditions), send(weights, condition.tokens.device))
        return Prompts(
            condition, self._embed([negative_prompt] * count), self._embed([prompt] * count), others
        )


def mixed(conditions: Condition, weights: Tensor) -> Condition:
    """B mixtures of K prompts' embeddings, tokens and pooled vectors alike; weights [B, K]."""
    weights = send(weights, conditions.tokens.device, conditions.tokens.dtype)
    pooled = None if conditions.pooled is None else weights @ conditions.pooled
    return Condition(torch.einsum("bk,kld->bld", weights, conditions.tokens), pooled)


def side_weights(azimuths: Tensor, elevations: Tensor) -> Tensor:
    """The shares of `SIDES` in each view, [B, 5], which sum to 1: linear in the azimuth between one side and the next.

    Args:
        azimuths, elevations: degrees [B].
    """
    quarters = azimuths % 360 / 90
    apart = (quarters[:, None] - torch.arange(4).to(quarters)).abs()
    around = (1 - torch.minimum(apart, 4 - apart)).clamp_min(0)
    above = _above(elevations)[:, None]
    return torch.cat([(1 - above) * around, above], dim=1)


def other_sides(azimuths: Tensor, elevations: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """For each view two sides that it should not look like, and their weights [B, 2], not positive.

    The weights are those of Perp-Neg's 3D experiments (Armandpour et al. 2023, with threestudio's numbers):
    f(r) = a exp(-b r) + c of the share r of the side that is looked at. From above, all fade to zero.
    """
    sides, weights = [], []
    for azimuth, above in zip(azimuths.tolist(), _above(elevations).tolist(), strict=True):
        turn = (azimuth + 180) % 360 - 180
        side = SIDES[1] if turn > 0 else SIDES[3]
        if abs(turn) < 90:
            r = 1 - abs(turn) / 90
            sides.append((SIDES[0], side))
            pair = (_decay(4, 0.5, -2.426, r), _decay(4, 0.5, -2.426, 1 - r))
        else:
            r = 2 - abs(turn) / 90
            sides.append((side, SIDES[0]))
            pair = (_decay(1, 0.5, -0.606, r), _decay(1, 0.5, 0.967, r))
        weights.append([-(1 - above) * value for value in pair])
    return sides, torch.tensor(weights)


def _above(elevations: Tensor) -> Tensor:
    return ((elevations - OVERHEAD_FROM) / (OVERHEAD_TO - OVERHEAD_FROM)).clamp(0, 1)


def _decay(a: float, b: float, c: float, r: float) -> float:
    return a * math.exp(-b * r) + c
