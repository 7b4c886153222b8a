"""Finds the noise that a picture comes from, draws it again from there, and edits it under other words.

python examples/4_invert_and_edit.py --steps 50; with --photo FILE, of a picture of yours
"""

from pathlib import Path

import torch
import tyro

from rfgs.flat.images import fit, psnr, read_image, save_image, side_by_side
from rfgs.flat.recipes import flowedit_recipe, ode_recipe
from rfgs.guidance.flowedit import flowedit
from rfgs.guidance.ode import invert_ode, sample_ode
from rfgs.priors import load_prior


def main(
    before: str = "a red cube",
    after: str = "a blue cube",
    photo: Path | None = None,
    steps: int = 50,
    output: Path = Path("."),
) -> None:
    prior = load_prior("tiny-sd3")
    source, target, nothing = (prior.embed([text]) for text in (before, after, ""))
    generator = torch.Generator().manual_seed(0)
    if photo is None:
        image = prior.sample(source, nothing, steps=steps, guidance_scale=4.0, generator=generator)
    else:
        image = fit(read_image(photo), prior.image_size)
    latents = prior.encode(image).detach()

    path, edit = ode_recipe(prior), flowedit_recipe(prior)
    path.steps = edit.steps = steps
    *_, noise = invert_ode(prior, latents, source, nothing, path)
    *_, again = sample_ode(prior, noise.x, source, nothing, path)
    *_, edited = flowedit(prior, latents, source, target, nothing, edit, generator=generator)

    pictures = [image, prior.decode(again.x), prior.decode(edited.x)]
    print(f"drawn again from its noise: {psnr(pictures[1], image):.1f} dB; saved before, again, edited")
    save_image(side_by_side([picture[0] for picture in pictures]), output / "edit.png")


if __name__ == "__main__":
    tyro.cli(main)
