"""The loop's settings, each declared here and nowhere else (`rfgs.settings`). No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rfgs.settings import GuidanceConfig, setting

Densify = Literal["none", "threshold", "quantile", "momentum", "mcmc"]
START_RADIUS = 0.7
"""World units; the object is to fill a ball of radius about 1. What has no splats to begin with, such as a ground, hardly
grows: below high noise a good model sees in the view that there is none, and believes the view. With 0.9 things next to each
other grow together (docs/results.md)."""


@dataclass
class StartConfig:
    """The ball of splats that a run starts from, see `rfgs.distill.first_splats`."""

    splats: int = setting(3000, "Number of Gaussians at the start.", least=1, common=True)
    start_radius: float = setting(
        START_RADIUS, "World units: radius of the ball of Gaussians at the start.", above=0
    )
    start_opacity: float = setting(0.1, "Their opacity.", above=0, most=0.999)


@dataclass
class DensifyConfig:
    """Settings of densification, part of the loop's."""

    densify: Densify = setting(
        "none",
        "Add Gaussians while the run goes on: threshold and quantile where the views' gradients are high, momentum where "
        "they are and agree, mcmc where the object is opaque, to which faint ones are moved too.",
        common=True,
    )
    max_splats: int = setting(
        10_000,
        "Number of Gaussians beyond which none are added, where some are.",
        least=1,
        common=True,
        usual="twice the number at the start",
    )
    """One that starts above it stays there."""
    densify_every: int = setting(25, "Steps between two rounds of densification.", least=1)
    """gsplat's 100 are for runs of 30,000."""
    densify_range: tuple[float, float] = setting(
        (0.1, 0.7),
        "Part of the run in which there are such rounds; the rest is left for what was added to settle.",
        least=0,
        most=1,
    )
    grow_gradient: float = setting(
        30.0, "threshold: gradient of a center in the image above which Gaussians are added there.", above=0
    )
    """Norm of the absolute gradient by the center in the image, in gsplat's units (half the image is 1). It goes with the
    scale of the loss, so that gsplat's 8e-4 for photographs says nothing here: with rfds-rev on tiny-sd3 the 95th percentile
    was 16 to 40 in a draft run."""
    grow_quantile: float = setting(
        0.95,
        "quantile, momentum: part of the Gaussians with smaller gradients, which are left alone.",
        least=0,
        most=1,
    )
    grow_snr: float = setting(
        0.5,
        "momentum: least ratio of a center's mean gradient to its root mean square; by noise alone it is about 0.23.",
        least=0,
        most=1,
    )
    split_scale: float = setting(
        0.03, "World units: Gaussians longer than this are split in two, smaller ones duplicated.", above=0
    )
    prune_opacity: float = setting(
        0.005, "Gaussians fainter than this are removed, or with mcmc moved.", least=0, most=1
    )
    prune_scale: float = setting(0.5, "World units: longer Gaussians are removed (all but mcmc).", above=0)
    mcmc_growth: float = setting(0.05, "Part of the Gaussians that mcmc adds in a round.", least=0)
    mcmc_noise: float = setting(
        1e4,
        "mcmc: random walk of nearly transparent Gaussians, in multiples of the learning rate of centers.",
        least=0,
    )
    """80 / 8e-3, where 80 is what gsplat multiplies their covariance with."""


@dataclass
class DistillConfig(StartConfig, DensifyConfig, GuidanceConfig):
    """Settings of the loop. It is read afresh at each step, so any of them may be changed while it runs."""

    steps: int = setting(300, "Number of optimization steps.", least=1, common=True)
    """Rates, noise and growth follow the share of these that is done. Fewer than are done already end the run."""
    prompt: str | None = setting(
        None, "Replaces the prompt that the loop was started with; none keeps that one.", steer=True
    )
    smooth_views: bool = setting(
        False,
        'Mix the words for neighboring sides ("front view", "left side view") by the angle of the camera, instead of '
        "switching from one to the next.",
        common=True,
    )
    perp_neg: bool = setting(
        False,
        "Perp-Neg: push each view away from what it would look like from other sides, against assets with many faces. "
        "Includes smooth_views, and doubles the model's evaluations for guidance.",
        common=True,
    )
    views_per_step: int = setting(
        4,
        "Camera views rendered in each step; more is steadier, slower, and takes more memory.",
        least=1,
        common=True,
    )
    resolution: int = setting(
        128,
        "Width and height of the views in pixels, a multiple of 8.",
        least=32,
        multiple=8,
        common=True,
        usual="the model's own",
    )
    first_resolution: float = setting(
        1.0,
        "Share of resolution that views are rendered in at first; it grows to 1 until half of the run.",
        above=0,
        most=1,
    )
    """Smaller views are enlarged before they are encoded (DreamGaussian, Tang et al. 2024)."""
    noise_range: tuple[float, float] = setting(
        (0.15, 0.98),
        "Noise fractions drawn at the start; they move to final_noise_range along noise_curve.",
        least=0,
        most=1,
        steer=True,
    )
    final_noise_range: tuple[float, float] = setting(
        (0.35, 0.75), "Noise fractions drawn at the end.", least=0, most=1, steer=True
    )
    noise_curve: float = setting(
        1.0,
        "Power of the run's progress along which the noise goes from first to last; above 1 it stays high for longer.",
        above=0,
    )
    noise_shift: float = setting(
        1.0, "How far the noise fractions lean to the upper end of their range; 1 is not at all.", above=0
    )
    """See `rfgs.priors.flow.draw_times`; 3 is how the authors draw them for SD3."""
    final_guidance_scale: float | None = setting(
        None,
        "Where guidance_scale falls to in a straight line over the run, if it is above.",
        least=0,
        example=2.0,
        usual="guidance_scale",
        steer=True,
    )
    """Much guidance settles what is there, and little of it the colors. None lets it stay."""
    background: Literal["grey", "color", "white"] = setting(
        "grey", "Behind each view: any grey, any color, or always white."
    )
    """What is meant to be empty can be painted to match white."""
    elevation_range: tuple[float, float] = setting(
        (-10.0, 45.0), "Degrees above the horizon from which most views are taken.", least=-90, most=90
    )
    overhead_every: int = setting(
        5, "Every this many steps all views are taken from above; 0 is never.", least=0
    )
    distance_range: tuple[float, float] = setting(
        (3.1, 3.3), "World units between camera and origin.", least=0.1, most=1000
    )
    """What the embedded models were trained on (`training.data`), as is the next."""
    fov_range: tuple[float, float] = setting(
        (40.0, 40.0), "Vertical fields of view, degrees.", least=1, most=170
    )
    radius: float = setting(
        1.2,
        "World units: no Gaussian leaves the ball of this radius, so that all views see past the object.",
        above=0,
    )
    """Otherwise splats put up a wall around it, whose grey is as likely as any (docs/guidance.md)."""
    lr_means: float = setting(
        2e-2, "Learning rate of the Gaussians' centers, world units a step.", least=0, most=1, steer=True
    )
    """As all of Adam's steps; colors and opacities are in their own pre-activation units."""
    lr_quats: float = setting(8e-3, "Learning rate of their rotations.", least=0, most=1, steer=True)
    lr_scales: float = setting(
        2e-2, "Learning rate of their sizes, as logarithms.", least=0, most=1, steer=True
    )
    lr_opacities: float = setting(
        0.2, "Learning rate of their opacities, as logits.", least=0, most=10, steer=True
    )
    lr_colors: float = setting(0.12, "Learning rate of their colors.", least=0, most=10, steer=True)
    final_lr: float = setting(
        0.1, "Learning rates fall to this share of themselves, along a cosine.", least=0, most=1
    )
    opacity_weight: float = setting(
        0.0, "Pull that makes Gaussians fainter where the views do not ask for more; 1 clears haze.", least=0
    )
    """In units of a gradient that all views agree on (`rfgs.distill.regularize`). 1 takes too much from drafts
    (docs/guidance.md)."""
    opaque_weight: float = setting(
        0.0,
        "Pull that makes what views show through opaque, where it is more than half so, and else clear; 1 is as strong as what "
        "the model asks for.",
        least=0,
    )
    opaque_after: float = setting(
        0.6, "Part of the run before that pull: until then shapes are still open.", least=0, most=1
    )
    """Earlier, legs grow together and an umbrella's dome is filled (docs/noise.md)."""
    scale_weight: float = setting(0.0, "Pull that makes Gaussians smaller, in the same units.", least=0)
    """Of a splat whose standard deviation is one world unit."""
    anisotropy_weight: float = setting(0.0, "Pull that makes needles rounder, in the same units.", least=0)
    """Where an axis is `anisotropy_limit` times another."""
    anisotropy_limit: float = setting(10.0, "Ratio of a Gaussian's axes that costs nothing.", least=1)
