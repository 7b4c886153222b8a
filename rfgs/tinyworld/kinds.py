"""The things of the tiny world, each a handful of parts (`rfgs.tinyworld.parts`), with the look that people expect of it."""

from __future__ import annotations

from rfgs.tinyworld.living import LIVING
from rfgs.tinyworld.made import MADE
from rfgs.tinyworld.parts import Part

NAMES = (
    "cube", "sphere", "cylinder", "cone", "torus", "mushroom", "snowman", "traffic cone", "house",
    "tree", "cactus", "mug", "table", "chair", "lamp", "rocket", "sailboat", "car", "ice cream",
    "donut", "hat", "umbrella", "duck", "fish", "teddy bear", "candle", "barrel", "crown", "robot",
    "lollipop", "present", "cat", "dog", "penguin", "apple", "pumpkin", "carrot", "flower",
    "pine tree", "airplane", "castle",
)  # fmt: skip
"""All kinds, the plain solids first. What is drawn at random is drawn by this order, so new ones are the last."""

KINDS: dict[str, list[Part]] = {name: {**MADE, **LIVING}[name] for name in NAMES}
"""Kind to parts."""

SOLIDS = tuple(KINDS)[:5]

MELTS: dict[str, float] = {
    "snowman": 0.12,
    "tree": 0.30,
    "cactus": 0.14,
    "duck": 0.22,
    "fish": 0.18,
    "teddy bear": 0.16,
    "cat": 0.16,
    "dog": 0.18,
    "penguin": 0.16,
    "pumpkin": 0.05,
    "flower": 0.06,
    "airplane": 0.12,
}
"""Kinds whose own-colored parts melt into each other, with the radius within which they do, in the unit of the parts."""

NATURAL: dict[str, tuple[tuple[str, str], ...]] = {
    "mushroom": (("red", "dotted"),),
    "snowman": (("white", "plain"),),
    "traffic cone": (("orange", "plain"),),
    "house": (("plaster", "plain"),),
    "tree": (("green", "plain"),),
    "cactus": (("green", "plain"),),
    "table": (("wooden", "plain"),),
    "chair": (("wooden", "plain"),),
    "lamp": (("plaster", "plain"),),
    "rocket": (("white", "plain"),),
    "sailboat": (("white", "plain"),),
    "ice cream": (("pink", "plain"),),
    "donut": (("pink", "plain"),),
    "duck": (("yellow", "plain"),),
    "fish": (("orange", "plain"),),
    "teddy bear": (("brown", "plain"),),
    "candle": (("white", "plain"),),
    "barrel": (("wooden", "plain"),),
    "crown": (("golden", "plain"),),
    "robot": (("grey", "plain"),),
    "cat": (("orange", "plain"), ("grey", "plain")),
    "dog": (("brown", "plain"),),
    "penguin": (("black", "plain"),),
    "apple": (("red", "plain"),),
    "pumpkin": (("orange", "plain"),),
    "carrot": (("orange", "plain"),),
    "flower": (("red", "plain"), ("pink", "plain"), ("yellow", "plain")),
    "pine tree": (("green", "plain"),),
    "airplane": (("white", "plain"),),
    "castle": (("grey", "plain"),),
}
"""What a person expects of a kind whose color is not said, as (color, finish); of all other kinds, any one color."""
