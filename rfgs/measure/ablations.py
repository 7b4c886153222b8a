"""Single changes to the default method, each with the question it answers. `rfgs bench --ablations` runs all of them.

Each is one column beside the base, with one setting changed; `rfgs.measure.table.effects` compares them run by run with the
base of the same prompt and seed. What a change costs in evaluations is in the table of costs, since some take more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rfgs.measure.plan import Column

BASE = Column("tiny-sd3", "rfds", label="base")
RELATIVE = ("steps", "views_per_step", "splats")


@dataclass(frozen=True)
class Ablation:
    """One change."""

    name: str
    settings: dict[str, Any]
    """The one setting, after "guidance" where another one is needed to read it; those of a preset are multiples of the preset's
    (`RELATIVE`)."""
    question: str


ABLATIONS = (
    Ablation("rev", {"guidance": "rfds-rev"}, "What does finding each view's noise bring?"),
    Ablation("rev-then-rfds", {"guidance": "rfds-rev", "second_guidance": "rfds"}, "In the first half?"),
    Ablation("rfds-then-rev", {"second_guidance": "rfds-rev"}, "In the second half?"),
    Ablation("rev-inner-steps-3", {"guidance": "rfds-rev", "inner_steps": 3}, "If it is found more exactly?"),
    Ablation("rev-inner-step-half", {"guidance": "rfds-rev", "inner_step_size": 0.5}, "By shorter steps?"),
    Ablation(
        "rev-renormalized", {"guidance": "rfds-rev", "renormalize_noise": True}, "As noise of variance 1?"
    ),
    Ablation("guidance-2", {"guidance_scale": 2.0}, "Is little guidance enough?"),
    Ablation("guidance-4", {"guidance_scale": 4.0}, "Is what it falls to enough from the start?"),
    Ablation("guidance-constant", {"final_guidance_scale": 8.0}, "Does guidance have to fall?"),
    Ablation("guidance-to-2", {"final_guidance_scale": 2.0}, "Should it fall further?"),
    Ablation("time-weight", {"time_weight": "1-t"}, "Are SDS's weights better?"),
    Ablation("noise-open", {"final_noise_range": (0.75, 0.85)}, "Should the noise stay high?"),
    Ablation("noise-settles-late", {"noise_curve": 2.0}, "Should it fall late?"),
    Ablation("noise-lower", {"noise_range": (0.7, 0.98)}, "May it start lower?"),
    Ablation("noise-low", {"noise_range": (0.15, 0.98)}, "Or from low to high at once?"),
    Ablation("opaque-none", {"opaque_weight": 0.0}, "Do alphas have to be pulled?"),
    Ablation("opaque-early", {"opaque_after": 0.3}, "From earlier on?"),
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
    Ablation("means-slower", {"lr_means": 0.01}, "Is half the rate of centers enough?"),
    Ablation("means-faster", {"lr_means": 0.04}, "Does twice the rate help?"),
    Ablation("scales-slower", {"lr_scales": 0.01}, "Is half the rate of scales enough?"),
    Ablation("scales-faster", {"lr_scales": 0.04}, "Does twice the rate help?"),
    Ablation("opacities-slower", {"lr_opacities": 0.1}, "Is half the rate of opacities enough?"),
    Ablation("opacities-faster", {"lr_opacities": 0.4}, "Does twice the rate help?"),
    Ablation("colors-slower", {"lr_colors": 0.06}, "Is half the rate of colors enough?"),
    Ablation("colors-faster", {"lr_colors": 0.24}, "Does twice the rate help?"),
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
