"""The optimization loop: a generator of steps. It prints nothing and writes no file; pausing is not asking for more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.distill.adam import Adam
from rfgs.distill.clock import Clock
from rfgs.distill.densify import Growth, densify, wants_absgrad
from rfgs.distill.gradients import Skipped
from rfgs.distill.regularize import backward, regularize
from rfgs.distill.settings import DistillConfig, StartConfig
from rfgs.distill.view_prompts import Prompter
from rfgs.errors import UserError
from rfgs.guidance import Counted, Guide, Views, check_own, make_guide
from rfgs.guidance.share import Share
from rfgs.priors.base import Prior
from rfgs.priors.flow import draw_times, noise_range_at
from rfgs.priors.sending import send
from rfgs.render import Frames, render
from rfgs.render.cameras import Cameras, sample_orbit
from rfgs.splats import Splats, ball, bound_colors, bound_extent


@dataclass(frozen=True, eq=False)
class Step:
    """What one step did. Tensors may be on the GPU, still being computed; reading one waits for it.

    Where several processes share the views, those here are this process's, as are the estimates and the residual.
    """

    index: int
    """1-based."""
    total: int
    loss: Tensor
    residual: Tensor
    """Root mean square of the guidance's residual, 0-d."""
    splats: Splats
    """The live parameters: take `.detach().clone()` to keep them."""
    frames: Frames
    """The views that were optimized, as they were before the step, without gradient."""
    cameras: Cameras
    x0_hat: Tensor
    """The prior's one-step estimate of each view, latents [B, c, h, w]."""
    t: Tensor
    """Noise fractions [B]."""
    seconds: dict[str, float]
    """Time spent in render, encode, prior, backward and optimizer; "prior" is all that the guidance does."""
    evaluations: dict[str, int]
    """Samples that went through the prior's network, "forward", and those of them that a gradient came "backward"."""
    skipped: Tensor
    """Entries of gradients, a guidance's own steps among them, that were not finite and were taken for 0, 0-d."""
    state: Callable[[], dict[str, Any]] = field(repr=False)
    """Everything the next step depends on, for `distill(..., resume=state)`; holds copies."""


def distill(
    prompt: str,
    prior: Prior,
    splats: Splats,
    config: DistillConfig,
    *,
    generator: torch.Generator,
    resume: dict[str, Any] | None = None,
    share: Share = Share(),  # noqa: B008, it is frozen.
) -> Iterator[Step]:
    """Optimize `splats` until the prior finds every view of them likely under `prompt`.

    Args:
        prompt: gets the view's words appended, such as ", front view".
        splats: where to start; the parameters are copied.
        generator: a CPU generator; all that is random comes from it: cameras, backgrounds, times, noise, a LoRA's start.
        resume: a `Step.state()` of an earlier run with the same arguments, which then goes on bit by bit the same.
        share: of several processes that make this asset together, all with the same arguments and splats; the first one's
            settings hold in all.

    Raises:
        UserError: settings that are not valid, or a guidance that is not defined for the prior (from the first step on).
    """
    check_own(config)
    device = splats.device
    counted = Counted(prior)
    prompts = Prompter(prior)
    name, guide = config.guidance, make_guide(config.guidance, counted)
    start = 0
    if resume is not None:
        splats = Splats.from_parameters({name: value.to(device) for name, value in resume["splats"].items()})
    splats = splats.detach().clone().requires_grad_()
    optimizer = make_optimizer(splats, config)
    growth = Growth()
    if resume is not None:
        optimizer.load_state_dict(resume["optimizer"])
        generator.set_state(resume["generator"])
        start = resume["index"]
        growth = Growth.of(resume.get("growth", {}), device)
        # What was learned under another guidance than the one to go on with is as good as forgotten, as below.
        learned = resume.get("guidance", {"name": None})
        if learned["name"] == name:
            guide.load(learned["state"])

    live, index = config, start
    while index < (config := share.same(live)).steps:
        index += 1
        clock = Clock()
        progress = (index - 1) / max(config.steps - 1, 1)
        set_learning_rates(optimizer, config, progress)
        views = config.views_per_step
        mine = share.of(views)
        size = resolution_at(progress, config)
        # Drawn on the CPU, and what reads them as numbers reads them there: a look at the GPU waits for all its work.
        drawn = mine.take(draw_cameras(index, size, config, generator))
        cameras = Cameras(send(drawn.viewmats, device), send(drawn.Ks, device), size, size)
        background = send(mine.take(draw_background(config, generator)), device)
        frames = render(splats, cameras, background, absgrad=wants_absgrad(config))
        clock.lap("render")
        rgb = frames.rgb
        if size != config.resolution:
            rgb = F.interpolate(rgb, (config.resolution, config.resolution), mode="bilinear")
        skipped = Skipped(device)
        # Here already, or one bad latent of one view would reach every splat that the view sees.
        x = skipped.watch(prior.encode(rgb))
        clock.lap("encode")

        noise_range = noise_range_at(
            progress**config.noise_curve, config.noise_range, config.final_noise_range
        )
        times = draw_times(views, noise_range, generator, shift=config.noise_shift)
        t = send(mine.take(times), x.device, x.dtype)
        e = send(mine.take(torch.randn(views, *x.shape[1:], generator=generator)), x.device, x.dtype)
        asked = prompts(
            config.prompt or prompt,
            config.negative_prompt,
            drawn,
            smooth=config.smooth_views,
            perp_neg=config.perp_neg,
        )
        if config.guidance != name:
            name, guide = config.guidance, make_guide(config.guidance, counted)
        scale = guidance_at(progress, config)
        estimate = guide(
            Views(
                x=x,
                condition=asked.condition,
                negative=asked.negative,
                t=t,
                e=e,
                plain=asked.plain,
                generator=generator,
                cameras=send(torch.linalg.inv(drawn.viewmats), device),
                others=asked.others,
                finite=skipped.finite,
                share=mine,
            ),
            config if scale == config.guidance_scale else replace(config, guidance_scale=scale),
        )
        mine.align(generator)
        clock.lap("prior")

        loss = mine.weight * estimate.loss
        backward(loss, frames, config, progress)
        clock.lap("backward")
        loss = loss.detach()
        gradients = [value.grad for value in splats.parameters().values() if value.grad is not None]
        mine.sum([*gradients, loss, skipped.count])
        skipped.clear(splats.parameters().values())
        optimizer.step()
        optimizer.zero_grad()
        regularize(splats, optimizer, config)
        splats = densify(
            splats,
            optimizer,
            growth,
            frames,
            config,
            index=index,
            steps=config.steps,
            generator=generator,
            share=mine,
        )
        bound_colors(splats)
        bound_extent(splats, config.radius)
        clock.lap("optimizer")
        # As it is now, so that a step whose successor breaks off half way can still be gone on from.
        random = generator.get_state()

        def state(
            index: int = index,
            name: str = name,
            guide: Guide = guide,
            splats: Splats = splats,
            random: Tensor = random,
        ) -> dict[str, Any]:
            return {
                "index": index,
                "splats": {key: value.detach().clone() for key, value in splats.parameters().items()},
                "growth": growth.state(),
                "optimizer": deepcopy(optimizer.state_dict()),
                "generator": random,
                "guidance": {"name": name, "state": guide.state()},
            }

        yield Step(
            index,
            max(index, config.steps),  # Which may have been made fewer while this one was computed.
            loss,
            estimate.residual,
            splats,
            frames.detach(),
            cameras,
            estimate.x0_hat,
            estimate.t,
            clock.seconds,
            {way: round(count / mine.weight) for way, count in counted.take().items()},
            skipped.count,
            state,
        )


def first_splats(config: StartConfig, generator: torch.Generator) -> Splats:
    """The ball of splats that a run with these settings starts from."""
    return ball(config.splats, config.start_radius, generator=generator, opacity=config.start_opacity)


def guidance_at(progress: float, config: DistillConfig) -> float:
    """The guidance scale at `progress` in [0, 1]: from `guidance_scale` down to `final_guidance_scale`, never up."""
    first = config.guidance_scale
    last = first if config.final_guidance_scale is None else min(first, config.final_guidance_scale)
    return first + progress * (last - first)


def resolution_at(progress: float, config: DistillConfig) -> int:
    """Width and height that views are rendered in at `progress` in [0, 1], pixels."""
    share = config.first_resolution + (1 - config.first_resolution) * min(2 * progress, 1.0)
    return max(1, round(share * config.resolution))


def draw_cameras(index: int, size: int, config: DistillConfig, generator: torch.Generator) -> Cameras:
    """The views of one step, spread around the object; now and then a whole step looks from above."""
    above = config.overhead_every > 0 and index % config.overhead_every == 0
    return sample_orbit(
        config.views_per_step,
        size,
        size,
        generator=generator,
        elevation_range=(45.0, 80.0) if above else config.elevation_range,
        distance_range=config.distance_range,
        fov_range=config.fov_range,
    )


def draw_background(config: DistillConfig, generator: torch.Generator) -> Tensor:
    """Colors behind the views of one step, [views, 3]."""
    if config.background == "white":
        return torch.ones(config.views_per_step, 3)
    channels = {"grey": 1, "color": 3}.get(config.background)
    if channels is None:
        raise UserError(f"background {config.background!r}: there are grey, color and white")
    return torch.rand(config.views_per_step, channels, generator=generator).expand(-1, 3)


_RATES = {
    "means": "lr_means",
    "quats": "lr_quats",
    "log_scales": "lr_scales",
    "logit_opacities": "lr_opacities",
    "sh0": "lr_colors",
    "shN": "lr_colors",
}


def make_optimizer(splats: Splats, config: DistillConfig) -> Adam:
    """Adam with one group a parameter."""
    groups = [
        {"params": [value], "lr": getattr(config, _RATES[name]), "rate": _RATES[name]}
        for name, value in splats.parameters().items()
    ]
    # eps far below gradients of any loss scale, as in every splatting code: the step must not depend on that scale.
    return Adam(groups, betas=(0.9, 0.99), eps=1e-15)


def set_learning_rates(optimizer: Adam, config: DistillConfig, progress: float) -> None:
    share = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    for group in optimizer.param_groups:
        group["lr"] = share * getattr(config, group["rate"])
