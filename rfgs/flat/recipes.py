"""The settings of 2D runs that suit a prior, each number with where it comes from; `rfgs.distill.recipes` has those of 3D."""

from __future__ import annotations

from rfgs.distill.recipes import changed, own, with_guidance
from rfgs.flat.settings import ParticleConfig
from rfgs.guidance import InversionConfig
from rfgs.guidance.flowedit import FlowEditConfig
from rfgs.guidance.ode import OdeConfig
from rfgs.priors.base import Prior, is_small


def particle_recipe(prior: Prior, guidance: str = "rfds-rev") -> ParticleConfig:
    """For images by distillation: defaults for the embedded priors, the authors' 2D experiments for big flows."""
    config = ParticleConfig()
    if not is_small(prior):
        # 100 is what DreamFusion gives SDS; the authors took 50 under both of their flows.
        config.steps, config.guidance_scale = 800, 50.0 if prior.kind == "flow" else 100.0
        if prior.kind == "diffusion":
            config.noise_range = config.final_noise_range = (0.02, 0.98)
    return with_guidance(changed(config, own(prior).images), guidance)


def inversion_recipe(prior: Prior) -> InversionConfig:
    """For iRFDS: the authors' for SD3, and fewer and longer steps for the embedded priors."""
    return InversionConfig(steps=400, learning_rate=1e-2) if is_small(prior) else InversionConfig()


def ode_recipe(prior: Prior) -> OdeConfig:
    """For ways along the flow's path, at the times of the model's own sampler."""
    return OdeConfig(steps=50, shift=_shift(prior))


def flowedit_recipe(prior: Prior) -> FlowEditConfig:
    """For FlowEdit: the paper's for SD3, and weaker guidance for the embedded priors."""
    config = FlowEditConfig(shift=_shift(prior))
    if is_small(prior):
        # With 4 half of the edits do not happen (docs/editing.md).
        config.source_scale, config.target_scale = 1.0, 7.0
    return changed(config, own(prior).edits)


def _shift(prior: Prior) -> float:
    """How far the model's own sampler leans to the noise; even times for a model that does not say."""
    return getattr(prior, "time_shift", 1.0)
