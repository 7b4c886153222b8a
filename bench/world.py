"""A picture of the tiny world: every kind in some colour and finish, and below them the grounds and the relations.

python bench/world.py --output assets/docs/world.png          # a few seconds
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rfgs.cameras import orbit
from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.scenes import COLORS, FINISHES, GROUNDS, Scene, Thing, build
from rfgs.tinyworld.tracer import render_scene

COLUMNS, TILE, LABEL, BACKGROUND = 8, 112, 14, 0.96
VIEW = (
    30,
    15,
    3.2,
    40,
)  # Azimuth, elevation, distance, field of view: a view from the front, a little to its left.


def scenes() -> list[tuple[str, Scene]]:
    """What is shown, with its labels: every kind alone, every ground, and a few pairs."""
    # Steps of 3 through 8 colours and of 1 through the finishes show all of them, neighbours different.
    looks = [(tuple(COLORS)[3 * i % 8], tuple(FINISHES)[i % 3]) for i in range(len(KINDS))]
    alone = [(kind, Scene((Thing(kind, *look),))) for kind, look in zip(KINDS, looks, strict=True)]
    on_grounds = zip(("cactus", "chair", "teddy bear", "snowman", "duck", "rocket"), GROUNDS, strict=True)
    standing = [
        (f"{kind}, {ground}", Scene((Thing(kind, color),), ground=ground))
        for (kind, ground), color in zip(
            on_grounds, ("green", "purple", "orange", "white", "yellow", "red"), strict=True
        )
    ]
    pairs = [
        ("mug on table", Scene((Thing("mug", "red", "dotted"), Thing("table", "blue")), "on")),
        ("tree next to house", Scene((Thing("tree", "green"), Thing("house", "yellow")), "next to")),
        ("robot on present", Scene((Thing("robot", "purple"), Thing("present", "green", "striped")), "on")),
    ]
    return alone + standing + pairs


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the picture to write")
    output = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet().save(output, optimize=True)
    print(f"wrote {output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
