"""A prior of your own: here tiny-sd3 with German ears. What is not said anew is left to the model that is wrapped.

python examples/3_own_prior.py --prompt "ein roter Würfel" --steps 300
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import tyro

from rfgs.distill import distill
from rfgs.distill.recipes import recipe
from rfgs.export import export
from rfgs.priors import Condition, load_prior
from rfgs.splats import ball, without_haze

WORDS = {"ein": "a", "eine": "a", "roter": "red", "blaue": "blue", "Würfel": "cube", "Kugel": "ball"}


class German:
    """Hears German words, and is its inner prior in all else (`rfgs.priors.base` says what a prior has to offer)."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def embed(self, prompts: Sequence[str]) -> Condition:
        # The loop appends English words: ", front view" and other sides.
        texts = [[WORDS.get(word, word) for word in p.replace(",", " ,").split()] for p in prompts]
        return self.inner.embed([" ".join(words).replace(" ,", ",") for words in texts])


def main(prompt: str = "ein roter Würfel", steps: int = 300, output: Path = Path(".")) -> None:
    prior = German(load_prior("tiny-sd3"))
    config = recipe(prior, "rfds")
    config.steps = steps
    generator = torch.Generator().manual_seed(0)
    splats = ball(2000, radius=0.7, generator=generator)
    for step in distill(prompt, prior, splats, config, generator=generator):
        splats = step.splats
    export(without_haze(splats.detach()), output / "wuerfel.ply")


if __name__ == "__main__":
    tyro.cli(main)
