"""What the commands for images are asked to do, in plain values that a run's record can hold. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rfgs.errors import UserError
from rfgs.models.loading import Loading
from rfgs.models.words import check_text

InvertMethod = Literal["irfds", "ode"]
EditMethod = Literal["irfds", "ode", "flowedit"]
METHODS: tuple[EditMethod, ...] = get_args(EditMethod)
"""Of which `invert` has all but the last."""


@dataclass(frozen=True)
class ImageJob(Loading):
    """An image from a sentence."""

    prompt: str
    model: str = "tiny-sd3"
    guidance: str = "rfds-rev"
    settings: dict[str, Any] = field(default_factory=dict)
    """What was asked for, by the names of `ParticleConfig` and of the guidance's own settings."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class InvertJob(Loading):
    """The noise of a photograph."""

    photo: str
    prompt: str
    method: InvertMethod = "irfds"
    model: str = "tiny-sd3"
    steps: int | None = None
    """Of the inversion: Adam steps for irfds, steps in time for ode. None, here and below, takes what suits the model."""
    resolution: int | None = None
    """The longer side in pixels."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What else was asked for, by the names of `InversionConfig` or, for ode, of `OdeConfig`."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class EditJob(Loading):
    """A photograph under another prompt."""

    photo: str
    source: str
    target: str
    method: EditMethod = "flowedit"
    model: str = "tiny-sd3"
    steps: int | None = None
    resolution: int | None = None
    guidance_scale: float | None = None
    """Under the target prompt."""
    strength: float | None = None
    """Only of flowedit."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What else was asked for, by the names of `FlowEditConfig`, or of the inversion's configuration, as in `InvertJob`."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"


def config_of(method: EditMethod) -> type:
    """The settings of a method, with torch."""
    from rfgs.guidance import InversionConfig
    from rfgs.guidance.flowedit import FlowEditConfig
    from rfgs.guidance.ode import OdeConfig

    return {"irfds": InversionConfig, "ode": OdeConfig, "flowedit": FlowEditConfig}[method]


def check_words(flag: str, text: str, example: str) -> str:
    """The text without the white space around it; UserError where nothing is left."""
    words = " ".join(text.split())
    if not words:
        raise UserError(f'{flag}: is empty; say what the image shows, as in {flag} "{example}"')
    return check_text(words)


def check_strength(strength: float | None, method: EditMethod) -> float | None:
    """A share in (0, 1], and only for the method that has one."""
    if strength is None:
        return None
    if method != "flowedit":
        raise UserError(
            f"--strength {strength:g}: only flowedit has one; leave it out with --method {method}"
        )
    if not 0 < strength <= 1:
        raise UserError(f"--strength {strength:g}: has to be above 0 and at most 1; try --strength 0.66")
    return strength


def check_side(side: int) -> int:
    """Pixels along the longer side: the image encoders shrink by 8, and the transformers see patches of 2."""
    if side < 32 or side % 16:
        nearest = max(32, 16 * round(side / 16))
        raise UserError(
            f"--resolution {side}: has to be a multiple of 16 and at least 32; try --resolution {nearest}"
        )
    return side
