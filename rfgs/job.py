"""`Job`: what one run is asked to make, in plain values that a run's record can hold. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Guidance = Literal["rfds", "rfds-rev"]
QualityName = Literal["draft", "normal", "high"]


@dataclass(frozen=True)
class Quality:
    """How much work a preset puts into an asset."""

    steps: int
    views_per_step: int
    splats: int


QUALITIES: dict[QualityName, Quality] = {
    "draft": Quality(steps=120, views_per_step=4, splats=1500),
    "normal": Quality(steps=300, views_per_step=4, splats=3000),
    "high": Quality(steps=800, views_per_step=4, splats=6000),
}
"""For small models, which were measured on two CPU cores."""

BIG_QUALITIES: dict[QualityName, Quality] = {
    "draft": Quality(steps=1000, views_per_step=2, splats=10_000),
    "normal": Quality(steps=2500, views_per_step=4, splats=20_000),
    "high": Quality(steps=6000, views_per_step=4, splats=50_000),
}
"""For Stable Diffusion 3 and its relatives; not measured on hardware yet."""


@dataclass(frozen=True)
class Job:
    """Everything that decides the result of a run."""

    prompt: str
    model: str = "tiny-sd3"
    """A backend's name, a folder in diffusers' layout, or a hub id."""
    guidance: Guidance = "rfds-rev"
    steps: int = QUALITIES["normal"].steps
    views_per_step: int = QUALITIES["normal"].views_per_step
    splats: int = QUALITIES["normal"].splats
    """Number of Gaussians at the start."""
    resolution: int | None = None
    """Width and height of the rendered views in pixels; None takes the model's own image size."""
    guidance_scale: float | None = None
    """Classifier-free guidance, 1 = none; None takes the prior's recipe."""
    negative_prompt: str = ""
    """What views should not look like; empty takes the prior's recipe."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
