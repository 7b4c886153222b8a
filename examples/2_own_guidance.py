"""A guidance of your own: one class, which the loop then takes like those that are part of rfgs.

python examples/2_own_guidance.py --prompt "a red cube" --steps 300
"""

from pathlib import Path

import torch
import tyro

from rfgs.distill import distill
from rfgs.distill.recipes import recipe
from rfgs.export import export
from rfgs.guidance import GUIDES, Estimate, GuidanceConfig, Guide, Views, rfds
from rfgs.priors import load_prior
from rfgs.splats import ball, without_haze


class Mirrored(Guide):
    """RFDS with each noise and its mirror image, so that half of what is random cancels, for twice the evaluations."""

    kind = "flow"  # Of the models that it is for: rectified flows.

    def __call__(self, views: Views, config: GuidanceConfig) -> Estimate:
        scale = config.guidance_scale  # Settings are read afresh in each step.
        one, other = (
            rfds(self.prior, views.x, views.condition, views.negative, t=views.t, e=e, guidance_scale=scale)
            for e in (views.e, -views.e)
        )
        return Estimate((one.loss + other.loss) / 2, one.residual, (one.x0_hat + other.x0_hat) / 2, views.t)


def main(prompt: str = "a red cube", steps: int = 300, output: Path = Path(".")) -> None:
    GUIDES["mirrored"] = Mirrored
    prior = load_prior("tiny-sd3")
    config = recipe(prior)
    config.guidance, config.steps = "mirrored", steps
    generator = torch.Generator().manual_seed(0)
    splats = ball(2000, radius=0.7, generator=generator)
    for step in distill(prompt, prior, splats, config, generator=generator):
        splats = step.splats
    export(without_haze(splats.detach()), output / "mirrored.ply")


if __name__ == "__main__":
    tyro.cli(main)
