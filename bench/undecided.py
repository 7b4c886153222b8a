"""At how much noise it is settled which picture a noisy view is: what the exact prior still holds possible, by t.

    python bench/undecided.py                                    # the table of docs/guidance.md

A true picture of the prompt from the front, noise added to it, and the posterior over all pictures that the words allow
("..., front view": a quarter turn, 10 elevations, 3 sizes, every look): how many are left, as exp of the entropy, and the
share of the right one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from program import RESULTS, start

from rfgs.priors import load_prior
from rfgs.tinyworld.exact_prior import ExactPrior

TIMES = (0.99, 0.98, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3)
SIDE = "front view"


@dataclass
class Options:
    prompts: tuple[str, ...] = ("a white duck on water", "a green umbrella", "a mug")
    draws: int = 24
    """Pictures and noises for each figure."""
    seed: int = 0
    output: Path = RESULTS / "undecided.json"


def left(
    prior: ExactPrior, prompt: str, t: float, draws: int, generator: torch.Generator
) -> dict[str, float]:
    """How many pictures noise of `t` leaves possible (geometric mean), and the share of the right one (mean)."""
    (block,) = prior.pictures(prompt)
    rows = block.rows(SIDE)
    entropies, shares = [], []
    for _ in range(draws):
        k = int(torch.randint(rows.start, rows.stop, (1,), generator=generator))
        look = int(torch.randint(block.colors.shape[1], (1,), generator=generator))
        only = torch.zeros(1, rows.stop - rows.start, block.colors.shape[1])
        only[0, k - rows.start, look] = 1
        x = block.mean(only.double(), torch.rand(1, 1, 1, generator=generator).expand_as(only).double(), rows)
        x_t = (1 - t) * x + t * torch.randn(x.shape, generator=generator)
        scores, _ = block.scores(x_t, torch.tensor([t]), rows)
        weights = torch.softmax((scores + block.chances[rows, None].log()).flatten(), 0)
        entropies.append(torch.special.entr(weights).sum().item())
        shares.append(weights.reshape(scores.shape[1:])[k - rows.start, look].item())
    return {"pictures": math.exp(sum(entropies) / draws), "right": sum(shares) / draws}


def main(options: Options) -> None:
    torch.set_num_threads(1)
    prior = load_prior("tiny-exact", "flow")
    assert isinstance(prior, ExactPrior)
    found = {}
    for prompt in options.prompts:
        generator = torch.Generator().manual_seed(options.seed)
        found[prompt] = {f"{t:g}": left(prior, prompt, t, options.draws, generator) for t in TIMES}
    print("| t |" + "".join(f" {t:g} |" for t in TIMES) + "\n|---|" + "--:|" * len(TIMES))
    for prompt, row in found.items():
        cells = "".join(f" {one['pictures']:.0f}, {100 * one['right']:.0f} % |" for one in row.values())
        print(f"| {prompt} |{cells}")
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    start(main, Options, __doc__)
