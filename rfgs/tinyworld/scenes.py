"""What the tiny world holds and how it is told: kinds, colours, relations, and the captions of a scene.

The object's front faces +X and every kind stands in one canonical pose, so a view word in a caption ("left side view")
means something. Scenes fit the ball of radius 1, but for the corners of a lone cube (1.11) and the rim of a lone cone (1.20).
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from rfgs.tinyworld.tracer import BOX, CONE, CYLINDER, PRIMITIVE_WIDTH, SPHERE, TORUS

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.09),
    "green": (0.10, 0.62, 0.17),
    "blue": (0.10, 0.22, 0.88),
    "yellow": (0.97, 0.83, 0.08),
    "orange": (0.97, 0.48, 0.05),
    "purple": (0.52, 0.13, 0.76),
    "white": (0.93, 0.93, 0.92),
    "black": (0.09, 0.09, 0.10),
}
KINDS = ("cube", "sphere", "cylinder", "cone", "torus")
RELATIONS = ("on", "next to")

# Wording only: the same word for the same thing.
KIND_WORDS = {"sphere": ("sphere", "ball"), "torus": ("torus", "ring", "donut"), "cube": ("cube", "box")}
RELATION_WORDS = {"on": ("on", "on top of"), "next to": ("next to", "beside")}


@dataclass(frozen=True)
class Thing:
    """One solid: `kind` from KINDS, `color` from COLORS."""

    kind: str
    color: str


@dataclass(frozen=True)
class Scene:
    """One thing, or two in a relation: `things[0]` stands on, or (seen from the front) to the left of, `things[1]`."""

    things: tuple[Thing, ...]
    relation: str | None = None

    @property
    def name(self) -> str:
        """The scene in the plainest words, e.g. "red cube on blue cylinder"; equal names mean equal scenes."""
        words = [f"{thing.color} {thing.kind}" for thing in self.things]
        return f" {self.relation} ".join(words) if self.relation else words[0]

    @property
    def held_out(self) -> bool:
        """Whether the scene is never shown in training: a fixed fifth of all pairs, by a hash of the name."""
        return self.relation is not None and hashlib.sha256(self.name.encode()).digest()[0] < 51


def all_scenes() -> list[Scene]:
    """Every scene of the world: 40 single things and 3120 pairs of things that differ in kind or colour."""
    things = [Thing(kind, color) for kind in KINDS for color in COLORS]
    pairs = [Scene((a, b), relation) for relation in RELATIONS for a in things for b in things if a != b]
    return [Scene((thing,)) for thing in things] + pairs


def _primitive(
    thing: Thing, size: float, center: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """One row of the tracer's array: `thing` with its half height or radius near `size`, in its canonical pose."""
    row = np.zeros(PRIMITIVE_WIDTH, dtype=np.float32)
    row[1:4] = center
    row[4:13] = np.eye(3).ravel()
    code, sizes = {
        "cube": (BOX, (0.70 * size, 0.70 * size, 0.70 * size, 0.06 * size)),
        "sphere": (SPHERE, (0.95 * size,)),
        "cylinder": (CYLINDER, (0.68 * size, 0.85 * size, 0.05 * size)),
        "cone": (CONE, (0.85 * size, 0.95 * size, 0.04 * size)),
        "torus": (TORUS, (0.72 * size, 0.27 * size)),
    }[thing.kind]
    row[0] = code
    row[13 : 13 + len(sizes)] = sizes
    row[17:20] = np.clip(np.array(COLORS[thing.color]) + rng.uniform(-0.03, 0.03, 3), 0, 1)
    return row


def _half_height(thing: Thing) -> float:
    """Half height of a thing of size 1 (the factors of `_primitive`)."""
    return {"cube": 0.70, "sphere": 0.95, "cylinder": 0.85, "cone": 0.95, "torus": 0.27}[thing.kind]


def build(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The tracer's primitives `[P, 24]` of a scene, with sizes and colours drawn a little differently each time."""
    if scene.relation is None:
        return _primitive(scene.things[0], rng.uniform(0.8, 0.95), (0, 0, 0), rng)[None]
    first, second = scene.things
    if scene.relation == "next to":
        a, b = rng.uniform(0.40, 0.46, 2)
        gap = rng.uniform(0.46, 0.50)
        # Both stand on the same floor, so that "next to" reads as it does in a picture.
        floor = -0.40
        left = _primitive(first, a, (0, -gap, floor + a * _half_height(first)), rng)
        right = _primitive(second, b, (0, gap, floor + b * _half_height(second)), rng)
        return np.stack([left, right])
    a, b = rng.uniform(0.42, 0.50), rng.uniform(0.50, 0.58)
    top, bottom = 2 * a * _half_height(first), 2 * b * _half_height(second)
    # A tip or a ring does not carry: what stands on a cone, or a ball on a ring, sinks in by a fixed share.
    sink = (
        0.30 * a
        if second.kind == "cone"
        else 0.35 * a
        if (second.kind, first.kind) == ("torus", "sphere")
        else 0.03
    )
    height = top + bottom - sink
    lower = _primitive(second, b, (0, 0, -height / 2 + bottom / 2), rng)
    upper = _primitive(first, a, (0, 0, height / 2 - top / 2), rng)
    return np.stack([upper, lower])


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """A caption without view words. With `rng` the wording varies; without it is the plainest: "a red cube on a blue cone"."""

    def choose(options):
        return options[0] if rng is None else options[rng.integers(len(options))]

    def article(word):
        return "an" if word[0] in "aeiou" else "a"

    def phrase(thing):
        kind = choose(KIND_WORDS.get(thing.kind, (thing.kind,)))
        if rng is not None and scene.relation is None and rng.random() < 0.15:
            return f"{article(kind)} {kind} that is {thing.color}"
        if rng is not None and rng.random() < 0.15:
            return f"{thing.color} {kind}"
        return f"{article(thing.color)} {thing.color} {kind}"

    words = [phrase(thing) for thing in scene.things]
    return f" {choose(RELATION_WORDS[scene.relation])} ".join(words) if scene.relation else words[0]


def vocabulary() -> list[str]:
    """Every word that a caption of this world can hold, view words included, in alphabetical order."""
    words = {*COLORS, *KINDS, "a", "an", "that", "is"}
    words |= {word for options in KIND_WORDS.values() for word in options}
    words |= {word for options in RELATION_WORDS.values() for text in options for word in text.split()}
    return sorted(words | set("front back left right side overhead view".split()))
