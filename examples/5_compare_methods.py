"""Compares two methods by the truth: how near each comes to the object that the prompt names in the tiny world.

python examples/5_compare_methods.py --prompt "a green mushroom" --steps 110 --seeds 3
"""

import time

import torch
import tyro

from rfgs.distill import distill
from rfgs.distill.recipes import recipe
from rfgs.priors import load_prior
from rfgs.splats import ball, without_haze
from rfgs.tinyworld.truth import measure


def main(prompt: str = "a green mushroom", steps: int = 110, seeds: int = 1) -> None:
    prior = load_prior("tiny-sd3")
    print("method     seed   IoU of silhouettes   PSNR of colors   seconds")
    for guidance in ("rfds", "rfds-rev"):
        for seed in range(seeds):
            config = recipe(prior, guidance)
            config.steps, config.densify = steps, "quantile"
            generator = torch.Generator().manual_seed(seed)
            splats = ball(2000, radius=0.7, generator=generator)
            began = time.perf_counter()
            for step in distill(prompt, prior, splats, config, generator=generator):
                splats = step.splats
            seconds = time.perf_counter() - began
            truth = measure(without_haze(splats.detach()), prompt)
            print(f"{guidance:10} {seed:4}   {truth.iou:18.2f}   {truth.psnr:12.1f} dB   {seconds:7.1f}")


if __name__ == "__main__":
    tyro.cli(main)
