"""What the pictures of the tiny world are, which its models are trained on: their size, sides, kinds of scenes and colors."""

from __future__ import annotations

import numpy as np

from rfgs.render.cameras import DEFAULT_DISTANCE
from rfgs.tinyworld.scenes import COLORS, PAINTS, Scene, Thing, expected_looks, second_color

IMAGE_SIZE = 128
"""Width and height, pixels."""
PATCH = 8
"""Pixels along each side of what becomes one latent; the encoder sees nothing beyond it."""
SETS = {"single": 0.40, "surroundings": 0.20, "multiple": 0.40}
"""Share of the pictures that each set of scenes has."""


def draw_view(rng: np.random.Generator) -> tuple[float, float, float]:
    """Azimuth, elevation (degrees) and distance (world units) of one training view; one in five is from above."""
    elevation = rng.uniform(45, 85) if rng.random() < 0.2 else rng.uniform(-10, 45)
    return rng.uniform(-180, 180), elevation, DEFAULT_DISTANCE + rng.uniform(-0.1, 0.1)


def thing_colors(scene: Scene) -> np.ndarray:
    """The colors [4, 3] of the first four layers of a scene's pictures; 0 for a second thing that is not there."""
    colors = np.zeros((4, 3), dtype=np.float32)
    for number, thing in enumerate(scene.things):
        colors[2 * number : 2 * number + 2] = PAINTS[thing.color], COLORS[second_color(thing.color)]
    return colors


def recolor(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same shapes in random colors, half of the things as people expect them; nothing that is held out."""

    def draw(thing: Thing) -> Thing:
        colors = tuple(COLORS)
        if rng.random() < 0.5:
            # What people expect of "a striped cat" is striped, though no cat is so where nothing is said.
            colors = tuple(color for color, _ in expected_looks(thing.kind, thing.finish))
        return Thing(thing.kind, colors[rng.integers(len(colors))], thing.finish, thing.size)

    for _ in range(20):
        things = tuple(draw(thing) for thing in scene.things)
        other = Scene(things, scene.relation, scene.ground)
        if not other.held_out and len({thing.unsized for thing in things}) == len(things):
            return other
    return scene
