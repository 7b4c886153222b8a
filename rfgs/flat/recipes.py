"""The settings of 2D runs that suit a prior, each number with where it comes from; `rfgs.distill.recipes` has those of 3D."""

from __future__ import annotations

from rfgs.distill.recipes import suited
from rfgs.flat.settings import ParticleConfig
from rfgs.guidance import InversionConfig
from rfgs.guidance.flowedit import FlowEditConfig
from rfgs.guidance.ode import OdeConfig
from rfgs.priors.base import DiffusionPrior, Prior, TextToImage
from rfgs.priors.instaflow import InstaFlowPrior
from rfgs.settings import assign


def particle_recipe(prior: Prior | DiffusionPrior, guidance: str = "rfds-rev") -> ParticleConfig:
    """For images by distillation: defaults for the embedded priors, the authors' 2D experiments for big flows."""
    config = ParticleConfig()
    if prior.vocabulary is None:
        # 100 is what DreamFusion gives SDS; the authors took 50 under both of their flows.
        config.steps, config.guidance_scale = 800, 50.0 if prior.kind == "flow" else 100.0
        if isinstance(prior, InstaFlowPrior):
            assign(config, {"lr_latents": 3e-3, "exact_inner_step": True})
        if prior.kind == "diffusion" or isinstance(prior, InstaFlowPrior):
            config.noise_range = config.final_noise_range = (0.02, 0.98)
    return suited(config, guidance, prior)


def inversion_recipe(prior: TextToImage) -> InversionConfig:
    """For iRFDS: the authors' for SD3, and fewer and longer steps for the embedded priors."""
    return InversionConfig() if prior.vocabulary is None else InversionConfig(steps=400, learning_rate=1e-2)


def ode_recipe(prior: TextToImage) -> OdeConfig:
    """For ways along the flow's path, at the times of the model's own sampler."""
    return OdeConfig(steps=50, shift=_shift(prior))


def flowedit_recipe(prior: TextToImage) -> FlowEditConfig:
    """For FlowEdit: the paper's for SD3, and weaker guidance for the embedded priors."""
    if prior.vocabulary is None:
        return FlowEditConfig(shift=_shift(prior))
    if getattr(prior, "exact", False):
        return FlowEditConfig(source_scale=1.0, target_scale=1.0, shift=_shift(prior))
    # With 4 half of the edits do not happen (docs/editing.md).
    return FlowEditConfig(source_scale=1.0, target_scale=7.0, shift=_shift(prior))


def _shift(prior: TextToImage) -> float:
    """How far the model's own sampler leans to the noise; even times for a model that does not say."""
    return getattr(prior, "time_shift", 1.0)
