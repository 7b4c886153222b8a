"""Text to image by distillation: images, or their latents, optimized directly. The loop of `rfgs.distill` without 3D."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rfgs.distill.clock import Clock
from rfgs.distill.gradients import Skipped
from rfgs.errors import UserError
from rfgs.flat.settings import ParticleConfig
from rfgs.guidance import Counted, Views, check_own, make_guide
from rfgs.priors.base import Prior
from rfgs.priors.flow import draw_times, noise_range_at


@dataclass(frozen=True, eq=False)
class ParticleStep:
    """What one step did."""

    index: int
    """1-based."""
    total: int
    loss: Tensor
    residual: Tensor
    """Root mean square of the guidance's residual, 0-d."""
    latents: Tensor
    """[P, c, h, w] before the step, without gradient."""
    x0_hat: Tensor
    """The prior's one-step estimates, [P, c, h, w]."""
    t: Tensor
    """Noise fractions [P]."""
    seconds: dict[str, float]
    """Time spent in encode, prior, backward and optimizer; "prior" is all that the guidance does."""
    evaluations: dict[str, int]
    """Samples that went through the prior's network, "forward", and those of them that a gradient came "backward"."""
    skipped: Tensor
    """Entries of the gradient, and of what a guidance moves itself, that were not finite and were taken for 0, 0-d."""
    images: Callable[[], Tensor] = field(repr=False)
    """The images as they are now, [P, 3, H, W] in [0, 1]; call it before the next step is asked for."""


def optimize(
    prompt: str, prior: Prior, config: ParticleConfig, *, generator: torch.Generator
) -> Iterator[ParticleStep]:
    """Optimize `config.particles` images until the prior finds them likely under `prompt`.

    Latents start as means of four values of U(-1, 1), which is what the authors' larger start comes to after their
    resizing; pixels start as grey with a little noise.

    Raises:
        UserError: settings that are not valid, or a guidance that is not defined for the prior (from the first step on).
    """
    check_own(config)
    counted = Counted(prior)
    name, guide = config.guidance, make_guide(config.guidance, counted)
    count = config.particles
    if count < 1:
        raise UserError(f"{count} particles: there has to be at least 1")
    side = config.resolution or prior.image_size
    condition, negative = prior.embed([prompt] * count), prior.embed([config.negative_prompt] * count)
    with torch.no_grad():
        shape = prior.encode(torch.full((1, 3, side, side), 0.5).to(condition.tokens.device)).shape[1:]
    if config.space == "latents":
        start = (2 * torch.rand(4, count, *shape, generator=generator) - 1).mean(0)
    elif config.space == "pixels":
        start = 0.5 + 0.05 * torch.randn(count, 3, side, side, generator=generator)
    else:
        raise UserError(f"space {config.space!r}: there are 'latents' and 'pixels'")
    parameter = start.to(condition.tokens.device).requires_grad_()
    optimizer = torch.optim.AdamW([parameter], weight_decay=0.0)

    def images() -> Tensor:
        now = parameter.detach()
        return prior.decode(now) if config.space == "latents" else now.clone()

    index = 0
    while index < config.steps:
        index += 1
        clock = Clock()
        progress = (index - 1) / max(config.steps - 1, 1)
        optimizer.param_groups[0]["lr"] = config.lr_latents if config.space == "latents" else config.lr_pixels
        x = parameter if config.space == "latents" else prior.encode(parameter)
        clock.lap("encode")
        noise_range = noise_range_at(progress, config.noise_range, config.final_noise_range)
        t = draw_times(count, noise_range, generator, shift=config.noise_shift).to(x)
        e = torch.randn(x.shape, generator=generator).to(x)
        if config.guidance != name:
            name, guide = config.guidance, make_guide(config.guidance, counted)
        skipped = Skipped(parameter.device)
        views = Views(
            x, condition, negative, t, e, plain=condition, generator=generator, finite=skipped.finite
        )
        estimate = guide(views, config)
        clock.lap("prior")
        before = x.detach().clone()
        estimate.loss.backward()
        clock.lap("backward")
        skipped.clear([parameter])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if config.space == "pixels":
            with torch.no_grad():
                parameter.clamp_(0, 1)  # Outside, the encoder's own clamp would let no gradient through.
        clock.lap("optimizer")
        yield ParticleStep(
            index,
            max(index, config.steps),
            estimate.loss.detach(),
            estimate.residual,
            before,
            estimate.x0_hat,
            estimate.t,
            clock.seconds,
            counted.take(),
            skipped.count,
            images,
        )
