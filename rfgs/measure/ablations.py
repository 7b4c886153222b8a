"""Single changes to the default method, each with the question it answers. `rfgs bench --ablations` runs all of them.

Each is one column beside the base, with one setting changed; `rfgs.measure.table.effects` compares them run by run with the
base of the same prompt and seed. What a change costs in evaluations is in the table of costs, since some take more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rfgs.measure.plan import Column

BASE = Column("tiny-sd3", "rfds-rev", label="base")
RELATIVE = ("steps", "views_per_step", "splats")


@dataclass(frozen=True)
class Ablation:
    """One change."""

    name: str
    settings: dict[str, Any]
    """The one setting (two for the guidance of one half); those of a preset are multiples of the preset's (`RELATIVE`)."""
    question: str


ABLATIONS = (
    Ablation("rfds", {"guidance": "rfds"}, "What does finding each view's noise bring?"),
    Ablation("rev-then-rfds", {"second_guidance": "rfds"}, "Does it help to end without it?"),
    Ablation("rfds-then-rev", {"guidance": "rfds", "second_guidance": "rfds-rev"}, "Or to begin without it?"),
    Ablation("inner-steps-3", {"inner_steps": 3}, "Does finding it more exactly bring more?"),
    Ablation("inner-step-half", {"inner_step_size": 0.5}, "Is the whole inner step too long?"),
    Ablation(
        "renormalized-noise", {"renormalize_noise": True}, "Does found noise need the variance of noise?"
    ),
    Ablation("guidance-2", {"guidance_scale": 2.0}, "Is less guidance enough?"),
    Ablation("guidance-8", {"guidance_scale": 8.0}, "Does more guidance help?"),
    Ablation(
        "noise-fixed", {"final_noise_range": (0.15, 0.98)}, "Does narrowing the noise over the run help?"
    ),
    Ablation("noise-high", {"noise_range": (0.5, 0.98)}, "Does it need little noise at the start?"),
    Ablation("views-half", {"views_per_step": 0.5}, "Are half the views a step enough?"),
    Ablation("views-double", {"views_per_step": 2}, "Do twice the views a step help?"),
    Ablation("steps-half", {"steps": 0.5}, "Has it converged after half the steps?"),
    Ablation("steps-double", {"steps": 2}, "Does going on bring more?"),
    Ablation("resolution-grows", {"first_resolution": 0.25}, "Does it help to begin with the coarse?"),
    Ablation("background-color", {"background": "color"}, "Are colored backgrounds better than grey ones?"),
    Ablation("background-white", {"background": "white"}, "Do backgrounds have to change?"),
    Ablation("no-overhead", {"overhead_every": 0}, "Are steps from above needed?"),
    Ablation("smooth-views", {"smooth_views": True}, "Do mixed view words help?"),
    Ablation("perp-neg", {"perp_neg": True}, "Does Perp-Neg help?"),
    Ablation("splats-half", {"splats": 0.5}, "Are half the splats enough?"),
    Ablation("splats-double", {"splats": 2}, "Do twice the splats help?"),
    Ablation("opacity-weight", {"opacity_weight": 1.0}, "Is there haze to clear?"),
    Ablation("radius-10", {"radius": 10.0}, "Do splats put up walls where they may?"),
    Ablation("scale-weight", {"scale_weight": 5.0}, "Do smaller splats look better?"),
    Ablation("anisotropy-weight", {"anisotropy_weight": 0.5}, "Do needles harm?"),
    Ablation("rates-constant", {"final_lr": 1.0}, "Do falling learning rates help?"),
    Ablation("start-small", {"start_radius": 0.5}, "Does a smaller start help?"),
    Ablation("start-large", {"start_radius": 0.9}, "Does a larger start help?"),
    Ablation("start-faint", {"start_opacity": 0.03}, "Does a fainter start help?"),
    Ablation("densify-threshold", {"densify": "threshold"}, "Does growth by gsplat's threshold help?"),
    Ablation("densify-none", {"densify": "none"}, "Does growth by a quantile help?"),
    Ablation("densify-momentum", {"densify": "momentum"}, "Does growth where gradients agree help?"),
    Ablation("densify-mcmc", {"densify": "mcmc"}, "Does relocation help?"),
)


def ablation_columns(quality: dict[str, Any], base: Column = BASE) -> list[Column]:
    """The base and one column for each change, by its name."""
    columns = [base]
    for ablation in ABLATIONS:
        changed = {
            name: round(value * quality[name]) if name in RELATIVE else value
            for name, value in ablation.settings.items()
        }
        columns.append(Column(base.model, base.guidance, {**base.settings, **changed}, label=ablation.name))
    return columns
