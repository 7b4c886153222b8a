"""Why RFDS-Rev averages what a prompt leaves open, in an experiment that has nothing else in it.

    python bench/found_noise.py

RFDS moves a picture x along d = x0_hat(x_t) - x. An inner step of RFDS-Rev with step size 1 moves x_t itself: put
e' = x_t + (1 - t) v into x_t' = (1 - t) x + t e', and

    x_t' = x_t - (1 - t) d,    so that    d' = x0_hat(x_t - (1 - t) d) - x  =  d - (1 - t) J d  to first order,

where J = dx0_hat / dx_t = (1 - t) / t^2 Cov(x0 | x_t). Where the model is sure, J is 0 and nothing changes. Where the picture may
be one of several, J is large along the line between them, and the found noise takes that part of the step away or turns it round.

1. Two pictures that differ in one number of sixteen, -a and a, equally likely: how many of the particles that start at their mean
   decide for one.
2. An open prompt under the exact prior, in one true view over one grey, at the mean of all its looks. The growth is what becomes
   of a small difference in the direction of one look, with the same noise: (d(x + h) - d(x - h)) h / 2 |h|^2, the mean over
   looks. Above 0 it grows, and the picture decides; below 0 it goes back to the mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from program import RESULTS, start
from torch import Tensor

from rfgs.guidance.rfds import rfds
from rfgs.guidance.rfds_rev import rfds_rev
from rfgs.priors import Prior, load_prior
from rfgs.priors.base import Condition
from rfgs.priors.flow import Flow, draw_times, noise_range_at, per_sample
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.shapes import by_shape, cameras_at, rows_at, traced
from rfgs.tinyworld.tracer import painted

WAYS: dict[str, dict[str, Any] | None] = {
    "random": None,
    "found": {"steps": 1},
    "found, 3 steps": {"steps": 3},
    "found, half a step": {"steps": 1, "step_size": 0.5},
    "found, renormalized": {"steps": 1, "renormalize": True},
    "found, steps of the whole": {"steps": 1, "exact": True},
}


@dataclass
class Options:
    prompts: tuple[str, ...] = ("a mug", "a hat")
    """Open ones, each of one shape in several colors."""
    draws: int = 32
    """Of noise, at each time."""
    seed: int = 0
    output: Path = RESULTS / "found_noise.json"


class TwoPictures(Flow):
    """The flow to noise from two pictures [1, 4, 4] that are 0 but for one corner, -a or a, in closed form."""

    name, image_size, vocabulary = "two pictures", 8, None

    def __init__(self, a: float) -> None:
        self.a = a

    def embed(self, prompts: Sequence[str]) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        t = per_sample(t, x_t)
        mean = torch.zeros_like(x_t)
        mean[..., :1, :1] = self.a * torch.tanh(self.a * (1 - t) * x_t[..., :1, :1] / t**2)
        return (x_t - mean) / t


def estimate(prior: Any, x: Tensor, condition: Condition, t: Tensor, e: Tensor, way: dict | None) -> Any:
    """RFDS with random noise, or RFDS-Rev with `way`, without guidance."""
    arguments = {"t": t, "e": e, "guidance_scale": 1.0}
    if way is None:
        return rfds(prior, x, condition, condition, **arguments)
    return rfds_rev(prior, x, condition, condition, **arguments, **way)


def decided(
    a: float,
    way: dict | None,
    ranges: tuple[tuple[float, float], tuple[float, float]],
    *,
    steps: int = 300,
    particles: int = 512,
    seed: int = 0,
) -> float:
    """The share of particles that end nearer to one picture than to the mean, by Adam, from the mean."""
    generator = torch.Generator().manual_seed(seed)
    prior = TwoPictures(a)
    x = (0.01 * a * torch.randn(particles, 1, 4, 4, generator=generator)).requires_grad_()
    condition = prior.embed([""] * particles)
    adam = torch.optim.Adam([x], lr=0.02 * a, betas=(0.9, 0.99))
    for step in range(steps):
        t = draw_times(particles, noise_range_at(step / (steps - 1), *ranges), generator)
        e = torch.randn(x.shape, generator=generator)
        estimate(prior, x, condition, t, e, way).loss.backward()
        adam.step()
        adam.zero_grad()
    return float((x.detach()[:, 0, 0, 0].abs() > a / 2).float().mean())


def look_latents(prior: Prior, prompt: str, azimuth: float = 20.0, elevation: float = 15.0) -> Tensor:
    """Latents [L, c, h, w] of a prompt's L looks from one view over middle grey; of its first shape."""
    shape, scenes = next(iter(by_shape(parse(prompt).looks()).items()))
    layers = traced(rows_at(shape, 0.5), cameras_at([(azimuth, elevation)], prior.image_size))
    pictures = [painted(layers, thing_colors(scene)) + 0.5 * (1 - layers[..., 7:]) for scene in scenes]
    rgb = torch.cat([torch.from_numpy(picture) for picture in pictures]).permute(0, 3, 1, 2).float()
    return prior.encode(rgb)


@torch.no_grad()
def growth(step: Callable[[Tensor], Tensor], x: Tensor, h: Tensor) -> float:
    """What becomes of a small difference h [1, c, h, w] at x, by `step`, which gives d [B, c, h, w] at its argument."""
    difference = step(x + h) - step(x - h)
    return float((difference * h).sum((1, 2, 3)).mean() / (2 * h.square().sum()))


def growth_table(prior: Prior, prompt: str, draws: int, seed: int) -> dict[str, dict[str, float]]:
    """Growth by way and time, the mean over the directions of all looks."""
    looks = look_latents(prior, prompt)
    mean = looks.mean(0, keepdim=True)
    condition = prior.embed([f"{prompt}, front view"])[[0] * draws]
    e = torch.randn(draws, *mean.shape[1:], generator=torch.Generator().manual_seed(seed))
    table: dict[str, dict[str, float]] = {}
    for name, way in WAYS.items():
        table[name] = {}
        for time in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
            t = torch.full((draws,), time)

            def step(x: Tensor, t: Tensor = t, way: dict | None = way) -> Tensor:
                return estimate(prior, x.expand_as(e), condition, t, e, way).x0_hat - x

            found = [growth(step, mean, 0.02 * (look - mean)) for look in looks.split(1)]
            table[name][f"{time:.1f}"] = sum(found) / len(found)
    return table


def main(options: Options) -> None:
    low, high = ((0.15, 0.98), (0.35, 0.75)), ((0.7, 0.98), (0.3, 0.5))
    shares = {
        name: {
            f"{a:g}, {kind}": decided(a, way, r)
            for a in (1.0, 3.0, 10.0)
            for kind, r in (("low", low), ("high", high))
        }
        for name, way in WAYS.items()
    }
    _print("particles that decided, by a and noise", shares)
    prior = load_prior("tiny-exact")
    grown = {prompt: growth_table(prior, prompt, options.draws, options.seed) for prompt in options.prompts}
    for prompt, table in grown.items():
        _print(f"growth of {prompt!r}, by t", table)
    options.output.write_text(json.dumps({"decided": shares, "growth": grown}, indent=1) + "\n")


def _print(title: str, table: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(table.values())))
    print(f"| {title} | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for name, row in table.items():
        print(f"| {name} | {' | '.join(f'{row[c]:.2f}' for c in columns)} |")
    print()


if __name__ == "__main__":
    start(main, Options, __doc__)
