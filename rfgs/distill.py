"""The optimisation loop: a generator of steps. It prints nothing and writes no file; pausing is not asking for more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from rfgs.cameras import Cameras, sample_orbit, view_words
from rfgs.errors import UserError
from rfgs.flow import draw_times, noise_range_at
from rfgs.guidance import Estimate, rfds, rfds_rev
from rfgs.priors.base import Condition, Prior
from rfgs.render import Frames, render
from rfgs.splats import Splats


@dataclass
class DistillConfig:
    """Settings of the loop. It is read afresh at each step, so any of them may be changed while it runs."""

    steps: int = 300
    prompt: str | None = None
    """Replaces the prompt the loop was started with; None keeps that one."""
    negative_prompt: str = ""
    guidance: Literal["rfds", "rfds-rev"] = "rfds-rev"
    guidance_scale: float = 4.0
    inner_steps: int = 1
    """RFDS-Rev: iRFDS steps on the noise in each step of the loop."""
    inner_step_size: float = 1.0
    """RFDS-Rev: length of an inner step, in units of (1 - t)."""
    renormalise_noise: bool = False
    """RFDS-Rev: bring the found noise back to variance 1."""
    views_per_step: int = 4
    resolution: int = 128
    """Width and height of the views, pixels."""
    noise_range: tuple[float, float] = (0.15, 0.98)
    """Noise fractions drawn at the start; they move in a straight line to `final_noise_range`."""
    final_noise_range: tuple[float, float] = (0.35, 0.75)
    elevation_range: tuple[float, float] = (-10.0, 45.0)
    """Degrees; most views are taken here, and every `overhead_every`-th from above."""
    overhead_every: int = 5
    lr_means: float = 8e-3
    """World units a step, as all Adam steps; colours and opacities are in their own pre-activation units."""
    lr_quats: float = 8e-3
    lr_scales: float = 8e-3
    lr_opacities: float = 4e-2
    lr_colors: float = 3e-2
    final_lr: float = 0.1
    """Learning rates fall to this share of themselves, along a cosine."""
    opacity_weight: float = 0.0
    """Weight of the mean opacity in the loss, which clears haze that the views do not ask for."""


@dataclass(frozen=True, eq=False)
class Step:
    """What one step did. Tensors may be on the GPU, still being computed; reading one waits for it."""

    index: int
    """1-based."""
    total: int
    loss: Tensor
    residual: Tensor
    """Root mean square of the guidance's residual, 0-d."""
    splats: Splats
    """The live parameters: take `.detach().clone()` to keep them."""
    frames: Frames
    """The views that were optimised, as they were before the step, without gradient."""
    cameras: Cameras
    x0_hat: Tensor
    """The prior's one-step estimate of each view, latents [B, c, h, w]."""
    t: Tensor
    """Noise fractions [B]."""
    seconds: dict[str, float]
    """Time spent in render, encode, prior, backward and optimiser."""
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
) -> Iterator[Step]:
    """Optimise `splats` until the prior finds every view of them likely under `prompt`.

    Args:
        prompt: gets the view's words appended, such as ", front view".
        splats: where to start; the parameters are copied.
        generator: a CPU generator; cameras, backgrounds, times and noise all come from it.
        resume: a `Step.state()` of an earlier run with the same arguments, which then goes on bit by bit the same.

    Raises:
        UserError: settings that cannot be (from the first step on).
    """
    device = splats.device
    embed = _Embedder(prior)
    start = 0
    if resume is not None:
        splats = Splats.from_parameters({name: value.to(device) for name, value in resume["splats"].items()})
    splats = splats.detach().clone().requires_grad_()
    optimiser = _make_optimiser(splats, config)
    if resume is not None:
        optimiser.load_state_dict(resume["optimiser"])
        generator.set_state(resume["generator"])
        start = resume["index"]

    for index in range(start + 1, config.steps + 1):
        clock = _Clock()
        progress = (index - 1) / max(config.steps - 1, 1)
        _set_learning_rates(optimiser, config, progress)
        views = config.views_per_step
        cameras = _draw_cameras(index, config, generator).to(device)
        # Any grey behind each view: what is meant to be empty cannot be painted to match.
        background = torch.rand(views, 1, generator=generator).expand(views, 3).to(device)
        frames = render(splats, cameras, background)
        clock.lap("render")
        x = prior.encode(frames.rgb)
        clock.lap("encode")

        noise_range = noise_range_at(progress, config.noise_range, config.final_noise_range)
        t = draw_times(views, noise_range, generator).to(x)
        e = torch.randn(x.shape, generator=generator).to(x)
        words = view_words(cameras.azimuths, cameras.elevations)
        condition = embed([f"{config.prompt or prompt}, {word}" for word in words])
        negative = embed([config.negative_prompt] * views)
        estimate = _guide(prior, x, condition, negative, t, e, config)
        clock.lap("prior")

        loss = estimate.loss
        if config.opacity_weight:
            loss = loss + config.opacity_weight * splats.opacities.mean()
        loss.backward()
        clock.lap("backward")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        clock.lap("optimiser")

        def state(index: int = index) -> dict[str, Any]:
            return {
                "index": index,
                "splats": {name: value.detach().clone() for name, value in splats.parameters().items()},
                "optimiser": _copy(optimiser.state_dict()),
                "generator": generator.get_state(),
            }

        yield Step(
            index,
            config.steps,
            loss.detach(),
            estimate.residual,
            splats,
            frames.detach(),
            cameras,
            estimate.x0_hat,
            estimate.t,
            clock.seconds,
            state,
        )


def _guide(
    prior: Prior,
    x: Tensor,
    condition: Condition,
    negative: Condition,
    t: Tensor,
    e: Tensor,
    config: DistillConfig,
) -> Estimate:
    if config.guidance == "rfds":
        return rfds(prior, x, condition, negative, t=t, e=e, guidance_scale=config.guidance_scale)
    if config.guidance == "rfds-rev":
        return rfds_rev(
            prior,
            x,
            condition,
            negative,
            t=t,
            e=e,
            guidance_scale=config.guidance_scale,
            steps=config.inner_steps,
            step_size=config.inner_step_size,
            renormalise=config.renormalise_noise,
        )
    raise UserError(f"guidance {config.guidance!r}: there are 'rfds' and 'rfds-rev'")


def _draw_cameras(index: int, config: DistillConfig, generator: torch.Generator) -> Cameras:
    """The views of one step, spread around the object; now and then a whole step looks from above."""
    above = config.overhead_every > 0 and index % config.overhead_every == 0
    return sample_orbit(
        config.views_per_step,
        config.resolution,
        config.resolution,
        generator=generator,
        elevation_range=(45.0, 80.0) if above else config.elevation_range,
    )


_RATES = {
    "means": "lr_means",
    "quats": "lr_quats",
    "log_scales": "lr_scales",
    "logit_opacities": "lr_opacities",
    "sh0": "lr_colors",
    "shN": "lr_colors",
}


def _make_optimiser(splats: Splats, config: DistillConfig) -> torch.optim.Optimizer:
    """Adam with one group a parameter, in one fused call."""
    groups = [
        {"params": [value], "lr": getattr(config, _RATES[name]), "rate": _RATES[name]}
        for name, value in splats.parameters().items()
    ]
    # eps far below gradients of any loss scale, as in every splatting code: the step must not depend on that scale.
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)


def _set_learning_rates(optimiser: torch.optim.Optimizer, config: DistillConfig, progress: float) -> None:
    share = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    for group in optimiser.param_groups:
        group["lr"] = share * getattr(config, group["rate"])


class _Embedder:
    """Embeds each text once."""

    def __init__(self, prior: Prior) -> None:
        self._prior = prior
        self._known: dict[str, Condition] = {}

    def __call__(self, prompts: list[str]) -> Condition:
        new = [text for text in dict.fromkeys(prompts) if text not in self._known]
        if new:
            embedded = self._prior.embed(new)
            self._known.update((text, embedded[i]) for i, text in enumerate(new))
        return Condition.cat([self._known[text] for text in prompts])


class _Clock:
    """Splits the time of one step. It never waits for a GPU, so on one its parts are the time to launch the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def _copy(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copy(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copy(value) for value in state]
    return state
