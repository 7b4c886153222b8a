"""A sentence becomes a file of splats and a picture of them.

python examples/1_prompt_to_splats.py --prompt "a red cube on a blue cylinder" --steps 300
"""

from pathlib import Path

import torch
import tyro

from rfgs.distill import distill
from rfgs.distill.recipes import recipe
from rfgs.export import export
from rfgs.priors import load_prior
from rfgs.splats import ball, without_haze


def main(prompt: str = "a red cube", steps: int = 300, output: Path = Path(".")) -> None:
    prior = load_prior("tiny-sd3")
    config = recipe(prior, "rfds")  # The settings that suit this model; a dataclass, so change what you like.
    config.steps = steps
    config.densify = "quantile"
    generator = torch.Generator().manual_seed(0)  # Everything that is random comes from here.
    splats = ball(2000, radius=0.7, generator=generator)

    for step in distill(prompt, prior, splats, config, generator=generator):
        splats = step.splats
        if step.index % 20 == 0:
            print(f"step {step.index} of {step.total}: residual {step.residual:.3f}, {len(splats)} splats")

    splats = without_haze(splats.detach())
    export(splats, output / "object.ply")  # For any splat viewer, or `rfgs view object.ply`.
    export(splats, output / "object.png")  # A strip of eight views.


if __name__ == "__main__":
    tyro.cli(main)
