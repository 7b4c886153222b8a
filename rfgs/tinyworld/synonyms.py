"""The words of the tiny world: those that mean the same, the plainest one first."""

from __future__ import annotations

KIND_WORDS = {
    "cube": ("cube", "box", "block"),
    "sphere": ("sphere", "ball"),
    "torus": ("torus", "ring"),
    "mushroom": ("mushroom", "toadstool"),
    "house": ("house", "cottage"),
    "mug": ("mug", "cup"),
    "rocket": ("rocket", "spaceship"),
    "sailboat": ("sailboat", "boat"),
    "ice cream": ("ice cream", "ice cream cone"),
    "donut": ("donut", "doughnut"),
    "hat": ("hat", "top hat"),
    "duck": ("duck", "rubber duck"),
    "teddy bear": ("teddy bear", "teddy", "bear"),
    "present": ("present", "gift"),
    "cat": ("cat", "kitten"),
    "dog": ("dog", "puppy"),
    "pine tree": ("pine tree", "fir tree", "christmas tree"),
    "airplane": ("airplane", "aeroplane", "plane"),
}
COLOR_WORDS = {"grey": ("grey", "gray"), "golden": ("golden", "gold"), "purple": ("purple", "violet")}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
FINISH_WORDS = {"striped": ("striped",), "dotted": ("dotted", "spotted")}
PATTERN_WORDS = {"striped": ("stripes",), "dotted": ("dots", "spots")}
RELATION_WORDS = {"on": ("on", "on top of"), "next to": ("next to", "beside")}
GROUND_WORDS = {
    "grass": ("on grass", "on the grass"),
    "wooden floor": ("on a wooden floor", "on the wooden floor"),
    "sand": ("on sand", "on the sand"),
    "snow": ("in snow", "in the snow"),
    "water": ("on water", "on the water"),
    "stone": ("on stone", "on stones"),
}
