"""The settings of images by distillation, each declared here and nowhere else (`rfgs.settings`). No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rfgs.settings import GuidanceConfig, setting


@dataclass
class ParticleConfig(GuidanceConfig):
    """Settings of `rfgs.flat.particles.optimize`, read afresh at each step. The defaults suit the embedded priors."""

    steps: int = setting(
        400, "Number of optimization steps.", least=1, common=True, usual="what suits the model"
    )
    guidance_scale: float = setting(
        7.5,
        "How strongly the prompt is enforced, without a unit: 1 is not at all.",
        least=0,
        common=True,
        usual="what suits the model",
    )
    negative_prompt: str = setting("", "What the images should not look like.", common=True, usual="none")
    particles: int = setting(
        4, "Images made at the same time, each from a start of its own.", least=1, common=True
    )
    resolution: int | None = setting(
        None,
        "Width and height in pixels, a multiple of 16.",
        least=32,
        multiple=16,
        common=True,
        usual="the model's own",
    )
    space: Literal["latents", "pixels"] = setting(
        "latents",
        "What is optimized: the model's latents, or pixels through its image encoder, which is slower.",
        common=True,
    )
    """Latents, as in the paper's 2D experiments."""
    lr_latents: float = setting(3e-2, "Learning rate of latents.", above=0, most=10)
    """The authors', for Stable Diffusion 3."""
    lr_pixels: float = setting(1e-2, "Learning rate of pixels.", above=0, most=10)
    noise_range: tuple[float, float] = setting(
        (0.06, 0.99),
        "Noise fractions drawn at the start; they move in a straight line to final_noise_range.",
        least=0,
        most=1,
    )
    """The authors' for SD3, as are those at the end."""
    final_noise_range: tuple[float, float] = setting(
        (0.06, 0.99), "Noise fractions drawn at the end.", least=0, most=1
    )
    noise_shift: float = setting(
        1.0, "How far the noise fractions lean to the upper end of their range; 1 is not at all.", above=0
    )
    """See `rfgs.priors.flow.draw_times`."""
