"""The settings of the loop that suit a prior, each number with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from rfgs.distill import DistillConfig
from rfgs.guidance import GuidanceConfig, check_values, find_guide, guides
from rfgs.priors.base import Prior, Recipe, is_small
from rfgs.settings import assign, check, declared

DISTILLED = Recipe(
    splats={"guidance_scale": 1.0},
    images={"guidance_scale": 1.0},
    # What edits is the difference of the two prompts.
    edits={"source_scale": 1.0, "target_scale": 1.0},
)
"""Of models with guidance baked in. *Untested on hardware.*"""

A = TypeVar("A")
C = TypeVar("C", bound=GuidanceConfig)


def recipe(prior: Prior, guidance: str = "rfds-rev") -> DistillConfig:
    """Settings to start from: the embedded priors' own, measured here, or those for the big models of its kind, with what
    the prior itself wants otherwise (`rfgs.priors.base.Recipe`)."""
    if is_small(prior):
        config = tiny_recipe(guidance)
    else:
        config = sd_recipe() if prior.kind == "diffusion" else sd3_recipe()
    return with_guidance(changed(config, own(prior).splats), guidance)


def own(prior: Prior) -> Recipe:
    """What the prior says of the settings that suit it, most nothing, and of one that was distilled that it wants no guidance."""
    said = getattr(prior, "recipe", Recipe())
    if not getattr(prior, "distilled", False):
        return said
    return Recipe(
        {**said.splats, **DISTILLED.splats},
        {**said.images, **DISTILLED.images},
        {**said.edits, **DISTILLED.edits},
    )


def changed(config: A, settings: Mapping[str, Any]) -> A:
    """The same object with these settings.

    Raises:
        UserError: one that neither it nor any guidance has, or a value that does not fit.
    """
    known = {name: one for guide in guides().values() for name, one in declared(guide.settings).items()}
    own_too = known if hasattr(config, "own") else {}
    assign(config, check(settings, {**own_too, **declared(type(config))}))
    return config


def config_for(
    prior: Prior, guidance: str, *values: Mapping[str, Any], also: str | None = None
) -> DistillConfig:
    """The settings of a run: the prior's recipe, and over it dictionaries of settings by name, of which later ones win.

    Args:
        also: another guidance that the run will change to, whose settings may be given too.

    Raises:
        UserError: a setting that the guidance does not read, or a value that does not fit.
    """
    config = recipe(prior, guidance)
    given = {name: value for layer in values for name, value in layer.items()}
    config.resolution = prior.image_size
    assign(config, check_values(given, DistillConfig, guidance, *([also] if also else [])))
    if "guidance_scale" in given and "final_guidance_scale" not in given:
        config.final_guidance_scale = None  # What is asked for by name stays as it is.
    if "max_splats" not in given:
        config.max_splats = 2 * config.splats
    if "densify_every" not in given and is_small(prior):
        # Ten times at most. After 36, as in 1,500 steps before, thousands of stray dots fill the ball: the views' noise looks for
        # details where nothing is.
        config.densify_every = max(config.densify_every, round(0.06 * config.steps))
    return config


def tiny_recipe(guidance: str = "rfds-rev") -> DistillConfig:
    """For the embedded priors: the defaults of `DistillConfig`, which were found by trial on them."""
    config = DistillConfig()
    # What the guidances differ in: docs/results.md#the-same-trials-for-each-method.
    if guidance == "vsd":
        config.guidance_scale = 2.0
    if guidance in ("rfds", "rfds-rev"):
        # Guidance to the end leaves colors loud, and hardly any takes doors and eyes away: docs/noise.md.
        config.guidance_scale, config.final_guidance_scale = 8.0, 4.0
    if guidance == "rfds-vsd":
        config.guidance_scale = 1.5
    if guidance in ("rfds", "rfds-rev", "rfds-vsd"):
        # From where nothing is settled to where all is: with little noise from the start each view keeps to the side and size
        # it looks like by chance, and with much to the end the asset is a blurred mean: docs/noise.md.
        config.noise_range, config.final_noise_range = (0.95, 0.99), (0.3, 0.5)
        config.opaque_weight = 1.0  # Sharper edges and no haze at no cost: docs/noise.md#opaque-or-clear.
    return config


def sd3_recipe() -> DistillConfig:
    """For SD3 and its relatives. Put together from published systems; *untested on hardware* until somebody runs it.

    No complete public recipe joins rectified-flow distillation with Gaussian splats, so the guidance comes from the
    authors' RFDS-Rev configuration and the splats' part from systems that distill diffusion models into splats.
    """
    return DistillConfig(
        steps=2500,
        guidance_scale=50.0,  # The authors use 100 on a NeRF; published splat systems saturate above 50.
        negative_prompt="unrealistic, blurry, low quality, oversaturation.",  # The authors' 3D configurations.
        # Their SD3 range is 0.06-0.875; a random start needs more noise first, which their NeRF's blob did not.
        noise_range=(0.06, 0.98),
        final_noise_range=(0.06, 0.75),
        # How their code draws them for SD3: evenly in u from 0.02 to 0.70, t = 3 u / (1 + 2 u), mean 0.58. *Untested here.*
        noise_shift=3.0,
        # With guidance 50 the noisiest quarter of the times has 89 % of a step's squared gradient (measured on tiny-sd3); this
        # gives the times the weights they have in SDS.
        own={"time_weight": "1-t"},
        # As stable-dreamfusion does, and Perp-Neg (Armandpour et al. 2023) in its 3D experiments: at the edge of two sides no
        # view is told to be the middle of one. The authors switch. *Untested here.*
        smooth_views=True,
        elevation_range=(-10.0, 45.0),  # threestudio's, and the authors'.
        # LODS-GS. A ball of radius 1 is cut off in the nearest of the narrowest views, 3 % of them, and the start in none.
        distance_range=(2.5, 4.0),
        fov_range=(40.0, 70.0),
        lr_means=1e-3,  # DreamGaussian and threestudio-3dgs: 1e-3 falling to 2e-5 in a scene of this size.
        lr_quats=2e-3,  # Between GaussianDreamer's 1e-3 and DreamGaussian's 5e-3.
        lr_scales=5e-3,  # DreamGaussian, GaussianDreamer, LucidDreamer.
        lr_opacities=2e-2,  # Between GaussianDreamer's 1e-2 and DreamGaussian's 5e-2.
        lr_colors=1e-2,  # DreamGaussian, GSGEN.
        final_lr=0.1,
        # LucidDreamer and GSGEN hold scales down too, in the loss, whose scale says nothing here. This much lets half of the
        # views' agreement carry a splat of 0.5 world units, and a twentieth one of 0.05. *Not measured.*
        scale_weight=1.0,
        # Where splats are added, as every 100 steps in GaussianDreamer and LucidDreamer; all systems that went on to the end
        # needed a bound, and Dream3DVG lost nothing by ending half way.
        densify_every=100,
        densify_range=(0.1, 0.6),
    )


def sd_recipe() -> DistillConfig:
    """For Stable Diffusion 1.5 and 2.1, with SDS. *Untested on hardware*, as `sd3_recipe`, whose splats' part it shares."""
    config = sd3_recipe()
    config.guidance_scale = 100.0  # DreamFusion's, and every splat system's on these models.
    config.noise_shift = 1.0  # Theirs are drawn evenly.
    config.noise_range, config.final_noise_range = (
        (0.02, 0.98),
        (0.02, 0.55),
    )  # GaussianDreamer: 0.98 falls to 0.55.
    return config


def with_guidance(config: C, guidance: str) -> C:
    """A prior's settings with what the guidance wants otherwise."""
    config.guidance = guidance
    if find_guide(guidance).trains:
        # ProlificDreamer's: the student takes the prior's own direction away, so that less has to be said louder.
        config.guidance_scale = min(config.guidance_scale, 7.5)
    return config
