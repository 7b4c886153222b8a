"""`Job`: what one run is asked to make, in plain values that a run's record can hold. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rfgs.models import catalog
from rfgs.models.loading import Loading

QualityName = Literal["draft", "normal", "high"]

QUALITIES: dict[QualityName, dict[str, Any]] = {
    "draft": {"steps": 110, "views_per_step": 4, "splats": 2000, "densify": "quantile"},
    "normal": {"steps": 420, "views_per_step": 4, "splats": 3000, "densify": "quantile"},
    "high": {"steps": 1500, "views_per_step": 4, "splats": 6000, "densify": "quantile"},
}
"""How much work a preset puts into an asset: settings, by name. For small models, which were measured on two CPU cores."""

BIG_QUALITIES: dict[QualityName, dict[str, Any]] = {
    "draft": {"steps": 1000, "views_per_step": 2, "splats": 10_000, "densify": "quantile"},
    "normal": {"steps": 2500, "views_per_step": 4, "splats": 20_000, "densify": "quantile"},
    "high": {"steps": 6000, "views_per_step": 4, "splats": 50_000, "densify": "quantile"},
}
"""For Stable Diffusion 3 and its relatives; not measured on hardware yet. A gradient's quantile, and not a threshold, says
where splats are added, since how large gradients are nobody knows before the first run."""


def with_pairs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were before JSON, which has no tuples, and pairs are such."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


@dataclass(frozen=True)
class Job(Loading):
    """Everything that decides the result of a run."""

    prompt: str
    model: str = "tiny-sd3"
    """A backend's name, a folder in diffusers' layout, or a hub id."""
    guidance: str = "rfds-rev"
    quality: QualityName = "normal"
    """The preset for what `settings` does not say."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What was asked for, by the names of `DistillConfig` and of the guidance's own settings. What is not in here, the
    preset and the model's recipe (`rfgs.distill.recipes`) say."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    start: str = ""
    """A file or a run's folder whose splats, mesh or points the run starts from (`rfgs.runs.start`); empty is a ball."""

    @property
    def comments(self) -> list[str]:
        """What an asset's file says of where it comes from, line by line."""
        # Of a folder, its place on this machine is nobody else's business.
        model = Path(self.model).name if Path(self.model).is_absolute() else self.model
        return [f"prompt: {self.prompt}", f"seed: {self.seed}", f"model: {model}"]

    def preset(self) -> dict[str, Any]:
        """The settings of the preset, for a model of this size."""
        return (QUALITIES if catalog.is_small(self.model) else BIG_QUALITIES)[self.quality]
