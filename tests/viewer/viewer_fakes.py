"""A run without a prior: splats settle on three balls, red at +X (the front), green at +Y, blue at +Z."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.priors.base import Condition
from rfgs.priors.flow import Flow, per_sample
from rfgs.render.cameras import Cameras, sample_orbit
from rfgs.settings import GuidanceConfig, setting
from rfgs.splats import SH_C0, Splats, ball


@dataclass
class FakeConfig(GuidanceConfig):
    """The fields of a configuration that the viewer may change."""

    prompt: str | None = setting(None, steer=True)
    guidance_scale: float = setting(7.5, least=0, steer=(1, 40))
    noise_range: tuple[float, float] = setting((0.15, 0.98), least=0, most=1, steer=True)
    lr_means: float = setting(8e-3, least=0, steer=True)


@dataclass(frozen=True)
class FakeFrames:
    rgb: Tensor


@dataclass(frozen=True)
class FakeStep:
    """What `rfgs.distill.Step` has, as far as a viewer reads it."""

    index: int
    total: int
    loss: Tensor
    residual: Tensor
    splats: Splats
    frames: FakeFrames
    cameras: Cameras
    x0_hat: Tensor
    t: Tensor
    seconds: dict[str, float] = field(default_factory=dict)


def three_balls(count: int, *, seed: int = 0) -> Splats:
    """`count` splats in three balls: red at +X, green at +Y, blue at +Z; the more there are, the smaller, as in any asset."""
    generator = torch.Generator().manual_seed(seed)
    scale = 0.06 * min(1.0, (300 / count) ** (1 / 3))
    splats = ball(count, 0.25, generator=generator, opacity=0.6, scale=scale)
    which = torch.arange(count) % 3
    splats.means += 0.6 * torch.eye(3)[which]
    splats.sh0[:, 0] = (0.15 + 0.8 * torch.eye(3)[which] - 0.5) / SH_C0
    return splats


def fake_distill(
    steps: int, count: int = 300, *, seconds: float = 0.02, config: FakeConfig | None = None, seed: int = 0
) -> Iterator[FakeStep]:
    """Moves random splats to the three balls in `steps` steps of about `seconds`, drawing noise each step."""
    generator = torch.Generator().manual_seed(seed)
    config = config or FakeConfig()
    goal = three_balls(count, seed=seed)
    splats = ball(count, 1.0, generator=generator, opacity=0.3)
    for index in range(1, steps + 1):
        time.sleep(seconds)
        rate = 0.05 * config.guidance_scale / 7.5
        with torch.no_grad():
            for now, then in zip(splats.parameters().values(), goal.parameters().values(), strict=True):
                now.add_(rate * (then - now) + 1e-3 * torch.randn(now.shape, generator=generator))
        loss = (splats.means - goal.means).pow(2).mean()
        cameras = sample_orbit(4, 64, 64, generator=generator)
        frames = FakeFrames(torch.rand(4, 3, 64, 64, generator=generator))
        x0_hat = torch.rand(4, 3, 8, 8, generator=generator)
        yield FakeStep(
            index, steps, loss, loss.sqrt(), splats, frames, cameras, x0_hat, torch.full((4,), 0.5)
        )


class FakePrior(Flow):
    """A prior that wants every picture plain orange, and does not take zebras. Latents are pictures, 8x smaller.

    Args:
        work: side of two square matrices multiplied at each evaluation, to make it cost something.
    """

    name, image_size, vocabulary = "fake", 64, frozenset(("two", "cubes", "orange", "a"))

    def __init__(self, work: int = 0) -> None:
        self._matrix = torch.ones(work, work) / max(work, 1)

    def embed(self, prompts: Sequence[str]) -> Condition:
        if any("zebra" in prompt for prompt in prompts):
            raise UserError(f"{prompts[0]!r}: the prior has never seen a zebra")
        return Condition(torch.tensor([[[0.9, 0.5, 0.1]]]).expand(len(prompts), -1, -1))

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 8)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.repeat_interleave(8, -1).repeat_interleave(8, -2)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        if len(self._matrix):
            self._matrix = self._matrix @ self._matrix
        return (x_t - condition.tokens[:, 0, :, None, None]) / per_sample(t, x_t)
