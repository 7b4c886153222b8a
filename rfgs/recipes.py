"""The settings of the loop that suit a prior, each number with where it comes from."""

from __future__ import annotations

from rfgs.distill import DistillConfig
from rfgs.priors.base import Prior


def recipe(prior: Prior) -> DistillConfig:
    """Settings to start from: the embedded priors' own, measured here, or those for the big flow models."""
    return tiny_recipe() if prior.vocabulary is not None else sd3_recipe()


def tiny_recipe() -> DistillConfig:
    """For the embedded priors: the defaults of `DistillConfig`, which were found by trial on them."""
    return DistillConfig()


def sd3_recipe() -> DistillConfig:
    """For SD3 and its relatives. Put together from published systems; *untested on hardware* until somebody runs it.

    No complete public recipe joins rectified-flow distillation with Gaussian splats, so the guidance comes from the
    authors' RFDS-Rev configuration and the splats' part from systems that distil diffusion models into splats.
    """
    return DistillConfig(
        steps=2500,
        guidance_scale=50.0,  # The authors use 100 on a NeRF; published splat systems saturate above 50.
        negative_prompt="unrealistic, blurry, low quality, oversaturation.",  # The authors' 3D configurations.
        # Their SD3 range is 0.06-0.875; a random start needs more noise first, which their NeRF's blob did not.
        noise_range=(0.06, 0.98),
        final_noise_range=(0.06, 0.75),
        elevation_range=(-10.0, 45.0),  # threestudio's, and the authors'.
        lr_means=1e-3,  # DreamGaussian and threestudio-3dgs: 1e-3 falling to 2e-5 in a scene of this size.
        lr_quats=2e-3,  # Between GaussianDreamer's 1e-3 and DreamGaussian's 5e-3.
        lr_scales=5e-3,  # DreamGaussian, GaussianDreamer, LucidDreamer.
        lr_opacities=2e-2,  # Between GaussianDreamer's 1e-2 and DreamGaussian's 5e-2.
        lr_colors=1e-2,  # DreamGaussian, GSGEN.
        final_lr=0.1,
    )
