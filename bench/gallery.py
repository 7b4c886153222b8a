"""24 prompts, half of which leave the look open, each from the front, the left, the back and above: is every asset recognized?

    python bench/gallery.py --output assets/docs/gallery.png          # 20 s an asset on two cores
    python bench/gallery.py --output gallery.png --prompts "a cactus" "a red car" --quality draft

Assets that `--work` holds already are not made again, so it can be stopped and run again, and several may run at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from program import start

from rfgs.export import read_ply, write_ply
from rfgs.export.turntable import views_strip
from rfgs.measure import work
from rfgs.measure.plan import Run, part_of
from rfgs.measure.rows import append_row, made_by
from rfgs.measure.sheets import VIEWS
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.folders import slug
from rfgs.runs.job import QUALITIES, QualityName

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
TILE = 96


@dataclass
class Options:
    output: Path
    """The picture to write."""
    work: Path = Path("runs/gallery")
    """Folder for the assets."""
    model: str = "tiny-sd3"
    """A model's name or folder."""
    quality: QualityName = "normal"
    """Preset of steps, views and splats."""
    guidance: Literal["rfds", "rfds-rev"] = "rfds"
    """Whether each view's noise is found."""
    prompts: tuple[str, ...] = PROMPTS
    """What to make."""
    seeds: int = 1
    """Seeds of each prompt."""
    columns: int = 2
    """Prompts side by side in the picture."""
    part: str = "1/1"
    """K/N: make only every N-th asset, from the K-th on."""
    threads: int = torch.get_num_threads()
    """Threads of each process."""


def path_of(folder: Path, prompt: str, seed: int) -> Path:
    """Where an asset is."""
    return folder / f"{slug(prompt)}-{seed}.ply"


def make(prompt: str, seed: int, options: Options) -> None:
    """One asset as `rfgs generate` makes it, and its time in a table beside it."""
    path = path_of(options.work, prompt, seed)
    if path.exists():
        return
    preset = QUALITIES[options.quality]
    run = Run(
        column="gallery",
        model=options.model,
        guidance=options.guidance,
        prompt_set="gallery",
        prompt=prompt,
        seed=seed,
        **preset,
    )
    prior = load_prior(options.model, dtype=distillation_dtype("cpu"))
    began = time.perf_counter()
    splats, _, _ = work.make(run, work.config_of(run, prior), prior)
    seconds = time.perf_counter() - began
    row = {"prompt": prompt, "seed": seed, "seconds": seconds, "threads": options.threads, **made_by()}
    append_row(options.work / "gallery.jsonl", row)
    write_ply(splats, path)
    print(f"{path.stem}: {seconds:.0f} s", flush=True)


def sheet(folder: Path, prompts: Sequence[str], seeds: int, columns: int) -> Image.Image:
    """All prompts in `columns`, one below the other, each with its seeds side by side."""
    azimuths, elevations = zip(*VIEWS, strict=True)
    cells = []
    for prompt in prompts:
        strips = [
            views_strip(
                read_ply(path_of(folder, prompt, seed)),
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


def run(options: Options) -> None:
    torch.set_num_threads(options.threads)
    jobs = [(prompt, seed) for seed in range(options.seeds) for prompt in options.prompts]
    for prompt, seed in part_of(jobs, options.part):
        make(prompt, seed, options)
    if all(path_of(options.work, prompt, seed).exists() for prompt, seed in jobs):
        options.output.parent.mkdir(parents=True, exist_ok=True)
        sheet(options.work, options.prompts, options.seeds, options.columns).save(options.output)
        print(f"wrote {options.output}")


if __name__ == "__main__":
    start(run, Options, __doc__)
