"""24 prompts, half of which leave the look open, each from the front, the left, the back and above: is every asset recognised?

    python bench/gallery.py --output assets/docs/gallery.png          # about a minute an asset on two cores
    python bench/gallery.py --output gallery.png --prompts "a cactus" "a red car" --quality draft

Assets that `--work` holds already are not made again, so it can be stopped and run again, and several may run at once.
"""

from __future__ import annotations

import rfgs  # noqa: F401  before torch, so that its threads wait as they do in `rfgs generate`

# isort: split

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from rfgs.export import read_ply, write_ply
from rfgs.export.turntable import views_strip
from rfgs.measure import work
from rfgs.measure.plan import Run
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.folders import slug
from rfgs.runs.job import QUALITIES

PROMPTS = (
    "a cactus",
    "a snowman",
    "a mushroom",
    "a teddy bear",
    "a house",
    "a rocket",
    "a cat",
    "a dog",
    "a castle",
    "a pumpkin",
    "an apple on a table",
    "a penguin in snow",
    "a wooden chair",
    "a golden crown",
    "a red car",
    "a striped green mug",
    "a purple umbrella",
    "a blue fish",
    "a pink flower",
    "a yellow torus",
    "an orange sailboat on water",
    "a red cube on a blue cylinder",
    "a small red ball on a big blue cube",
    "a white duck next to a red present",
)
VIEWS = ((0, 15), (90, 15), (180, 15), (0, 65))  # Azimuth and elevation, degrees.
TILE = 96


def make(prompt: str, seed: int, folder: Path, args: argparse.Namespace) -> None:
    """One asset as `rfgs generate` makes it, with its time beside it."""
    path = folder / f"{slug(prompt)}-{seed}.ply"
    if path.exists():
        return
    preset = QUALITIES[args.quality]
    run = Run(
        column="gallery",
        model=args.model,
        guidance=args.guidance,
        prompt_set="gallery",
        prompt=prompt,
        seed=seed,
        **preset,
    )
    prior = load_prior(args.model, dtype=distillation_dtype("cpu"))
    began = time.perf_counter()
    splats, _, _ = work.make(run, work.config_of(run, prior), prior)
    seconds = time.perf_counter() - began
    path.with_suffix(".json").write_text(json.dumps({"seconds": seconds}))
    write_ply(splats, path)
    print(f"{path.stem}: {seconds:.0f} s", flush=True)


def sheet(folder: Path, prompts: Sequence[str], seeds: int, columns: int) -> Image.Image:
    """All prompts in `columns`, one below the other, each with its seeds side by side."""
    azimuths, elevations = zip(*VIEWS, strict=True)
    cells = []
    for prompt in prompts:
        strips = [
            views_strip(
                read_ply(folder / f"{slug(prompt)}-{seed}.ply"),
                azimuths,
                elevations,
                size=TILE,
                columns=len(VIEWS),
            )
            for seed in range(seeds)
        ]
        label = Image.new("RGB", (strips[0].shape[1] * seeds + 12 * (seeds - 1), 16), "white")
        ImageDraw.Draw(label).text((4, 2), prompt, fill="black")
        gap = np.full((TILE, 12, 3), 255, np.uint8)
        row = [part for strip in strips for part in (strip, gap)][:-1]
        cells.append(np.concatenate([np.asarray(label), np.concatenate(row, axis=1)]))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--work", type=Path, default=Path("runs/gallery"), help="folder for the assets")
    parser.add_argument("--model", default="tiny-sd3")
    parser.add_argument("--quality", choices=list(QUALITIES), default="normal")
    parser.add_argument("--guidance", choices=["rfds", "rfds-rev"], default="rfds-rev")
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--columns", type=int, default=2, help="of prompts in the picture")
    parser.add_argument(
        "--part", default="1/1", help="K/N: make only every N-th asset, starting with the K-th"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, args.part.split("/"))
    jobs = [(prompt, seed) for seed in range(args.seeds) for prompt in args.prompts]
    for prompt, seed in jobs[part - 1 :: parts]:
        make(prompt, seed, args.work, args)
    if all((args.work / f"{slug(prompt)}-{seed}.ply").exists() for prompt, seed in jobs):
        args.output.parent.mkdir(parents=True, exist_ok=True)
        sheet(args.work, args.prompts, args.seeds, args.columns).save(args.output)
        print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
