"""A picture of the tiny world: every kind as people expect it, and below them finishes, sizes, grounds and relations.

python bench/world.py --output assets/docs/world.png          # a few seconds
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from program import start

from rfgs.render.cameras import orbit
from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import ANY, GROUNDS, Scene, Thing, expected_looks
from rfgs.tinyworld.tracer import render_scene

COLUMNS, TILE, LABEL, BACKGROUND = 8, 112, 14, 0.96
VIEW = (
    30,
    15,
    3.2,
    40,
)  # Azimuth, elevation, distance, field of view: a view from the front, a little to its left.


def scenes() -> list[tuple[str, Scene]]:
    """What is shown, with its labels: every kind alone, and a few finishes, sizes, grounds and pairs."""
    alone = []
    for i, kind in enumerate(KINDS):
        looks = expected_looks(kind)
        # Where any color may come, steps of 3 through the eight make neighbors different.
        look = looks[3 * i % 8] if len(looks) == len(ANY) else looks[0]
        alone.append((kind, Scene((Thing(kind, *look),))))
    finished = [
        ("striped purple cat", Scene((Thing("cat", "purple", "striped"),))),
        ("dotted green mug", Scene((Thing("mug", "green", "dotted"),))),
        ("golden teddy bear", Scene((Thing("teddy bear", "golden"),))),
        ("wooden rocket", Scene((Thing("rocket", "wooden"),))),
    ]
    on_grounds = zip(("cactus", "chair", "teddy bear", "snowman", "duck", "castle"), GROUNDS, strict=True)
    standing = [
        (f"{kind}, {ground}", Scene((Thing(kind, *expected_looks(kind)[0]),), ground=ground))
        for kind, ground in on_grounds
    ]
    pairs = [
        ("apple on table", Scene((Thing("apple", "red"), Thing("table", "wooden")), "on")),
        ("tree next to house", Scene((Thing("tree", "green"), Thing("house", "plaster")), "next to")),
        (
            "small on big",
            Scene((Thing("cube", "red", size="small"), Thing("sphere", "blue", size="big")), "on"),
        ),
        ("cat next to dog", Scene((Thing("cat", "grey"), Thing("dog", "brown")), "next to")),
        ("robot on present", Scene((Thing("robot", "grey"), Thing("present", "green", "striped")), "on")),
    ]
    return alone + finished + standing + pairs


def sheet() -> Image.Image:
    shown = scenes()
    rows = -(-len(shown) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + LABEL)), "white")
    draw = ImageDraw.Draw(page)
    camera = orbit(*VIEW, TILE, TILE)
    for i, (label, scene) in enumerate(shown):
        prims = build(scene, np.random.default_rng(i))
        rgba = render_scene(prims, camera.viewmats.numpy(), camera.Ks.numpy(), TILE, TILE, supersample=3)[0]
        rgb = rgba[..., :3] + (1 - rgba[..., 3:]) * BACKGROUND
        left, top = i % COLUMNS * TILE, i // COLUMNS * (TILE + LABEL)
        page.paste(Image.fromarray((rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8)), (left, top))
        draw.text((left + 4, top + TILE + 1), label, fill="black")
    return page


@dataclass
class Options:
    output: Path
    """The picture to write."""


def run(options: Options) -> None:
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet().save(options.output, optimize=True)
    print(f"wrote {options.output}: {options.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    start(run, Options, __doc__)
