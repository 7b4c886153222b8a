"""`Job`: what one run is asked to make, in plain values that a run's record can hold. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

Guidance = Literal["sds", "vsd", "rfds", "rfds-rev", "rfds-vsd"]
Kind = Literal["flow", "diffusion"]
KINDS: dict[Guidance, Kind] = {
    "sds": "diffusion",
    "vsd": "diffusion",
    "rfds": "flow",
    "rfds-rev": "flow",
    "rfds-vsd": "flow",
}
"""The kind of model that each guidance is defined for."""
LORA_GUIDANCES: tuple[Guidance, ...] = ("vsd", "rfds-vsd")
"""Those that train a LoRA on the model's network."""
LORA_RANK = 4
"""Of that LoRA, unless asked otherwise."""
QualityName = Literal["draft", "normal", "high"]
Densify = Literal["none", "threshold", "quantile", "momentum", "mcmc"]
"""Where splats are added while a run goes on, see `rfgs.densify`."""


@dataclass(frozen=True)
class Quality:
    """How much work a preset puts into an asset."""

    steps: int
    views_per_step: int
    splats: int
    densify: Densify = "quantile"


QUALITIES: dict[QualityName, Quality] = {
    "draft": Quality(steps=110, views_per_step=4, splats=2000),
    "normal": Quality(steps=420, views_per_step=4, splats=3000),
    "high": Quality(steps=1500, views_per_step=4, splats=6000),
}
"""For small models, which were measured on two CPU cores."""

BIG_QUALITIES: dict[QualityName, Quality] = {
    "draft": Quality(steps=1000, views_per_step=2, splats=10_000),
    "normal": Quality(steps=2500, views_per_step=4, splats=20_000),
    "high": Quality(steps=6000, views_per_step=4, splats=50_000),
}
"""For Stable Diffusion 3 and its relatives; not measured on hardware yet. A gradient's quantile, and not a threshold, says
where splats are added, since how large gradients are nobody knows before the first run."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """How the model judges, in 3D as in 2D. None takes what suits the model (`rfgs.recipes`, `rfgs.guidance`)."""

    guidance: Guidance = "rfds-rev"
    guidance_scale: float | None = None
    """Classifier-free guidance, 1 = none."""
    negative_prompt: str = ""
    """What images should not look like; empty takes what suits the model."""
    inner_steps: int | None = None
    inner_step_size: float | None = None
    inner_optimiser: Literal["gradient", "adam"] = "gradient"
    renormalise_noise: bool = False
    lora_rank: int | None = None
    lora_steps: int | None = None
    lr_lora: float | None = None

    def settings(self) -> dict[str, Any]:
        """What is set, under the names of `rfgs.guidance.GuidanceConfig`."""
        values = {field.name: getattr(self, field.name) for field in fields(Method)}
        return {name: value for name, value in values.items() if value is not None and value != ""}


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded, see `rfgs.priors.load_prior`."""

    t5: Literal["keep", "8bit", "drop"] = "keep"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    offload: bool = False
    compile: bool = False
    engine: Literal["auto", "torch", "openvino"] = "auto"


@dataclass(frozen=True)
class Job(Method, Loading):
    """Everything that decides the result of a run."""

    prompt: str
    model: str = "tiny-sd3"
    """A backend's name, a folder in diffusers' layout, or a hub id."""
    steps: int = QUALITIES["normal"].steps
    views_per_step: int = QUALITIES["normal"].views_per_step
    splats: int = QUALITIES["normal"].splats
    """Number of Gaussians at the start."""
    resolution: int | None = None
    """Width and height of the rendered views in pixels; None takes the model's own image size."""
    smooth_views: bool = False
    perp_neg: bool = False
    densify: Densify = "quantile"
    max_splats: int | None = None
    """Bound of densification; None takes twice the number at the start."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
