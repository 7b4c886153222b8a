"""What the tiny world holds: things in their colors, finishes and sizes, alone, in relations and in surroundings.

The object's front faces +X and every kind stands in one canonical pose, so a view word in a caption ("left side view")
means something. How scenes are told in words is in `rfgs.tinyworld.language`.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from rfgs.tinyworld.kinds import KINDS, NATURAL, SOLIDS
from rfgs.tinyworld.primitives import DOTTED, MOTTLED, PLAIN, PLANKS, RIPPLED, STRIPED

Color = tuple[float, float, float]

COLORS: dict[str, Color] = {
    "red": (0.86, 0.10, 0.09),
    "green": (0.10, 0.62, 0.17),
    "blue": (0.10, 0.22, 0.88),
    "yellow": (0.97, 0.83, 0.08),
    "orange": (0.97, 0.48, 0.05),
    "purple": (0.52, 0.13, 0.76),
    "white": (0.93, 0.93, 0.92),
    "black": (0.09, 0.09, 0.10),
    "brown": (0.42, 0.25, 0.13),
    "pink": (0.95, 0.52, 0.68),
    "grey": (0.55, 0.55, 0.57),
    "golden": (0.90, 0.66, 0.16),
    "wooden": (0.64, 0.42, 0.22),
}
ANY = tuple(COLORS)[:8]
"""The colors that a thing may have of which people expect none in particular."""
PAINTS: dict[str, Color] = {**COLORS, "plaster": (0.90, 0.83, 0.68)}
"""All colors of things: those that can be said, and those that some have where none is."""
SIZES = {"": 1.0, "small": 0.66, "big": 1.3}
"""Factors of a thing's size. What would then leave the picture is made smaller with all that is in it."""
FINISHES = {"plain": PLAIN, "striped": STRIPED, "dotted": DOTTED}
RELATIONS = ("on", "next to")
REACH = 1.05
"""Every scene is within this distance of the origin: cameras at the nearest distance of training, 3.1, see all of it."""

# Ground: words, tracer's finish, two colors, period.
GROUNDS: dict[str, tuple[str, int, Color, Color, float]] = {
    "grass": ("on grass", MOTTLED, (0.16, 0.50, 0.12), (0.34, 0.68, 0.20), 0.07),
    "wooden floor": ("on a wooden floor", PLANKS, (0.72, 0.48, 0.26), (0.34, 0.20, 0.10), 0.26),
    "sand": ("on sand", MOTTLED, (0.86, 0.74, 0.50), (0.94, 0.84, 0.62), 0.10),
    "snow": ("in snow", MOTTLED, (0.88, 0.92, 0.97), (0.98, 0.98, 0.99), 0.16),
    "water": ("on water", RIPPLED, (0.08, 0.34, 0.62), (0.35, 0.66, 0.85), 0.22),
    "stone": ("on stone", MOTTLED, (0.42, 0.42, 0.43), (0.60, 0.60, 0.61), 0.22),
}


def second_color(color: str) -> str:
    """The color of the stripes and dots of a thing of `color`: white, or black on white and yellow."""
    return "black" if color in ("white", "yellow") else "white"


def _share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone, on every machine."""
    return hashlib.sha256(text.encode()).digest()[0] / 256


@functools.cache
def expected_looks(kind: str, finish: str | None = None) -> tuple[tuple[str, str], ...]:
    """The (color, finish) that a kind may have where no color is said; `finish` is what is said of it, None for nothing."""
    natural = NATURAL.get(kind, tuple((color, "plain") for color in ANY))
    if finish is None:
        return natural
    return tuple(dict.fromkeys((color, finish) for color, _ in natural))


@dataclass(frozen=True)
class Thing:
    """`kind` from KINDS, `color` from PAINTS, `finish` from FINISHES, `size` from SIZES."""

    kind: str
    color: str
    finish: str = "plain"
    size: str = ""

    @property
    def name(self) -> str:
        """In the plainest words, e.g. "small striped red mug"."""
        return f"{self.size} {self.unsized}".lstrip()

    @property
    def unsized(self) -> str:
        """Its name but for the size, e.g. "striped red mug"."""
        finish = "" if self.finish == "plain" else f"{self.finish} "
        return f"{finish}{self.color} {self.kind}"

    @property
    def expected(self) -> bool:
        """Whether it looks as people expect of its kind where they say neither color nor finish."""
        return (self.color, self.finish) in expected_looks(self.kind)

    @property
    def held_out(self) -> bool:
        """Whether training never shows it, in no size: a fixed fifth of all, by a hash of the name.

        What people expect of a kind is always shown, and so are the plain solids.
        """
        if self.kind in SOLIDS and self.finish == "plain":
            return False
        return (self.color, self.finish) not in NATURAL.get(self.kind, ()) and _share(self.unsized) < 0.2


@dataclass(frozen=True)
class Scene:
    """One thing, with surroundings or without, or two things in a relation.

    `things[0]` stands on `things[1]`, or, seen from the front, to the left of it. `ground` is from GROUNDS.
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    ground: str | None = None

    @property
    def name(self) -> str:
        """The scene in the plainest words, e.g. "red cube on blue cylinder"; equal names mean equal scenes."""
        return self._phrased([thing.name for thing in self.things])

    def _phrased(self, words: list[str]) -> str:
        if self.relation:
            return f" {self.relation} ".join(words)
        return words[0] if self.ground is None else f"{words[0]} {GROUNDS[self.ground][0]}"

    @property
    def held_out(self) -> bool:
        """Whether training never shows it: it holds a thing that is held out, or is one of a fixed fifth of combinations."""
        if any(thing.held_out for thing in self.things):
            return True
        if self.relation is None and self.ground is None:
            return False
        return _share(self._phrased([thing.unsized for thing in self.things])) < 0.2


THINGS = tuple(Thing(kind, color, finish) for kind in KINDS for color in COLORS for finish in FINISHES)

# What can carry another thing: a flat top, a tip or a rim.
CARRIERS = (
    "cube",
    "cylinder",
    "cone",
    "torus",
    "sphere",
    "table",
    "barrel",
    "present",
    "mug",
    "hat",
    "donut",
    "house",
    "pumpkin",
    "castle",
)


def draw_thing(rng: np.random.Generator, kinds: tuple[str, ...], plain: float, sized: float) -> Thing:
    """A random thing of one of `kinds`: half the time as people expect it, else in any color.

    Args:
        plain: the chance of a plain finish, in the other half;  sized: of being small or big.
    """
    kind = kinds[rng.integers(len(kinds))]
    size = tuple(SIZES)[1 + rng.integers(2)] if rng.random() < sized else ""
    if rng.random() < 0.5:
        looks = expected_looks(kind)
        return Thing(kind, *looks[rng.integers(len(looks))], size)
    finish = "plain" if rng.random() < plain else ("striped", "dotted")[rng.integers(2)]
    return Thing(kind, tuple(COLORS)[rng.integers(len(COLORS))], finish, size)


def draw_scene(rng: np.random.Generator, prompt_set: str, held_out: bool = False) -> Scene:
    """A random scene of a set, "single", "surroundings" or "multiple", from those that training shows, or from the others.

    The plain solids come up twice as often as other kinds: the simplest prompts are the first that people try.
    """
    kinds = tuple(KINDS) + SOLIDS
    while True:
        if prompt_set == "single":
            scene = Scene((draw_thing(rng, kinds, 0.5, 0.06),))
        elif prompt_set == "surroundings":
            ground = tuple(GROUNDS)[rng.integers(len(GROUNDS))]
            scene = Scene((draw_thing(rng, kinds, 0.6, 0.06),), ground=ground)
        else:
            relation = RELATIONS[rng.integers(2)]
            first = draw_thing(rng, kinds, 0.8, 0.15)
            carriers = CARRIERS + 2 * SOLIDS if relation == "on" else kinds
            second = draw_thing(rng, carriers, 0.8, 0.15)
            scene = Scene((first, second), relation)
            if first.unsized == second.unsized:
                continue
        if scene.held_out == held_out:
            return scene
