"""What every guidance takes and gives: views to judge, the settings all share, the estimate, the form of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.perp_neg import Others
from rfgs.guidance.share import Share
from rfgs.priors.base import Condition
from rfgs.priors.flow import per_sample
from rfgs.settings import GuidanceConfig, declared, setting

Reduction = Literal["sum", "mean"]
S = TypeVar("S")
Finite = Callable[[Tensor], Tensor]
"""`finite`, or a function that also counts what it does (`rfgs.distill.gradients.Skipped`)."""


def finite(step: Tensor) -> Tensor:
    """A step or a gradient [...] with 0 in the place of Inf and NaN, so that one overflow costs one entry; without waiting
    for the device."""
    return step.nan_to_num(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class NoSettings:
    """Of a guidance that reads nothing but what all read (`GuidanceConfig`)."""


@dataclass(frozen=True)
class TimeSettings:
    """Of guidances that weight their loss by the time."""

    time_weight: Literal["uniform", "1-t"] = setting(
        "uniform", "Weight of the loss by the noise fraction t; 1-t gives the weights of SDS."
    )
    """With much guidance the noisiest views have by far the largest gradients, and 1 - t makes them smaller."""


@dataclass(frozen=True, eq=False)
class Views:
    """B views, or images without a camera, to be judged together."""

    x: Tensor
    """Their latents [B, c, h, w], with gradient."""
    condition: Condition
    """What each should show; in 3D with the view's words."""
    negative: Condition
    t: Tensor
    """Noise fractions [B]."""
    e: Tensor
    """Gaussian noise like x."""
    plain: Condition
    """What all should show, without a word about the view."""
    generator: torch.Generator
    """CPU generator, for draws beyond t and e."""
    cameras: Tensor | None = None
    """Camera-to-world matrices [B, 4, 4]; None where there are no cameras."""
    others: Others | None = None
    """With Perp-Neg, what each view should not look like."""
    finite: Finite = finite
    """Goes over the steps that a guidance takes of its own, on noises and students."""
    share: Share = Share()
    """Which of the step's views these are, where several processes have a part of them: draws are for all of the views, and
    what is learned from them is added up."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a guidance makes of B latents."""

    loss: Tensor
    """0-d, with a gradient to the latents (or to the noise, for `irfds`)."""
    residual: Tensor
    """0-d, root mean square of the prior's disagreement: of velocities for flows, of noise for diffusion models."""
    x0_hat: Tensor
    """The prior's one-step estimate of the clean latents, [B, c, h, w]."""
    t: Tensor
    """Noise fractions, [B]."""


def arguments(views: Views, config: GuidanceConfig) -> dict[str, Any]:
    """What all functions of guidance take, by their names."""
    return {
        "x": views.x,
        "condition": views.condition,
        "negative": views.negative,
        "t": views.t,
        "e": views.e,
        "guidance_scale": config.guidance_scale,
        "others": views.others,
    }


def time_weights(t: Tensor, kind: Literal["uniform", "1-t"]) -> Tensor | None:
    """Weights [B] of the loss at noise fractions t [B]; None is 1.

    Raises:
        UserError: no such weight.
    """
    if kind not in ("uniform", "1-t"):
        raise UserError(f"time_weight {kind!r}: there are uniform and 1-t")
    return 1 - t if kind == "1-t" else None


def own(kind: type[S], config: GuidanceConfig) -> S:
    """The settings of a guidance's own, of the dataclass that declares them, as they are in `config`."""
    return kind(**{name: config.own[name] for name in declared(kind) if name in config.own})


class Guide:
    """A guidance at work in one run under one prior: what the loops call. Most have no state.

    A new one is a subclass in a module of its own. It is found by its name in this package, and by "module:Class" elsewhere.
    """

    name: ClassVar[str]
    """What it is asked for by, such as "rfds-rev"."""
    kind: ClassVar[Literal["flow", "diffusion"]]
    """Of the priors that it is defined for."""
    settings: ClassVar[type] = NoSettings
    """A dataclass with the settings of its own, each declared by `rfgs.settings.setting` (read them with `own`)."""
    trains: ClassVar[bool] = False
    """Whether it trains a LoRA on the prior's network."""

    def __init__(self, prior: Any) -> None:
        self.prior = prior

    def __call__(self, views: Views, config: GuidanceConfig) -> Estimate:
        """Judges the views once."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Copies of all that the next call depends on and that was not given to it, in tensors and plain containers."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a `state()`."""


def matching_loss(
    u: Tensor, target: Tensor, reduction: Reduction = "sum", *, weight: Tensor | None = None
) -> Tensor:
    """Squared distance of u [B, c, h, w] to a stopped target: no sign is ever placed by hand, autograd finds it.

    The published gradients, w(t) (v - u), hide the sign of du/dx in w(t) and diverge if taken literally for a model
    with u = x - e. A square against a constant has the right sign in every convention.

    Args:
        reduction: "sum" is 0.5 sum(w r^2) / B, whose gradient by u is w r / B, whatever the size of the latents; "mean"
            is mean(w r^2) / B, the authors' released code, with gradient 2 w r / (N B) where N = numel of the batch.
        weight: w of each sample, [B]; None is 1.
    """
    squares = (u - target.detach()).square()
    if weight is not None:
        squares = per_sample(weight, u) * squares
    if reduction == "sum":
        return 0.5 * squares.sum() / len(u)
    return squares.mean() / len(u)


def root_mean_square(difference: Tensor) -> Tensor:
    """0-d, without gradient."""
    return torch.sqrt(difference.detach().square().mean())
