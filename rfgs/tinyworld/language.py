"""How the tiny world is told in words: captions of scenes, and what a prompt may mean.

People leave things open: "a cactus" says no colour, and is green. A caption says of a thing's look only what tells it from
what people expect; what has no expected look comes in any one colour. `parse` reads a prompt the same way round.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rfgs.errors import UserError
from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.scenes import (
    COLORS,
    FINISHES,
    GROUNDS,
    RELATIONS,
    SIZES,
    Scene,
    Thing,
    expected_looks,
    second_color,
)

# Other words for the same. The first are the plainest.
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
VIEWS = ("front view", "left side view", "back view", "right side view", "overhead view")


def with_article(words: str) -> str:
    """ "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def phrase(thing: Thing) -> str:
    """A thing in the plainest words that leave nothing open, such as "a small striped red mug"."""
    color = "" if thing.color not in COLORS else thing.color
    finish = "" if thing.finish == "plain" or not color else thing.finish
    return with_article(" ".join(word for word in (thing.size, finish, color, thing.kind) if word))


def open_phrase(thing: Thing) -> str:
    """A thing whose look is not said, such as "a mug"."""
    return with_article(" ".join(word for word in (thing.size, thing.kind) if word))


def caption(scene: Scene, rng: np.random.Generator | None = None, *, closed: bool = True) -> str:
    """A caption without view words.

    Args:
        rng: varies the wording, and leaves open what may be; None takes the plainest words, "a red cube on a blue cone".
        closed: without `rng`, whether the looks of things are said.
    """
    if rng is None:
        said = [phrase(thing) if closed else open_phrase(thing) for thing in scene.things]
        choose = _plainest
    else:
        said = [_varied_phrase(thing, rng) for thing in scene.things]

        def choose(options: tuple[str, ...]) -> str:
            return options[rng.integers(len(options))]

    if scene.relation:
        return f" {choose(RELATION_WORDS[scene.relation])} ".join(said)
    return said[0] if scene.ground is None else f"{said[0]} {choose(GROUND_WORDS[scene.ground])}"


def _plainest(options: tuple[str, ...]) -> str:
    return options[0]


def _varied_phrase(thing: Thing, rng: np.random.Generator) -> str:
    """A thing in words that vary, of which some leave its colour, finish or article open."""

    def word(table: Mapping[str, tuple[str, ...]], key: str) -> str:
        options = table.get(key, (key,))
        return options[0] if rng.random() < 0.7 else options[rng.integers(len(options))]

    kind, color = word(KIND_WORDS, thing.kind), word(COLOR_WORDS, thing.color)
    size = f"{word(SIZE_WORDS, thing.size)} " if thing.size else ""
    leaves_look, leaves_color = rng.random() < 0.6, rng.random() < 0.3
    before, after = "", ""
    if thing.color not in COLORS or (thing.expected and leaves_look):
        color = ""
    else:
        if thing.finish != "plain":
            if rng.random() < 0.5:
                after = f" with {second_color(thing.color)} {word(PATTERN_WORDS, thing.finish)}"
            else:
                before = f"{word(FINISH_WORDS, thing.finish)} "
        finish = None if thing.finish == "plain" else thing.finish
        if finish and leaves_color and (thing.color, finish) in expected_looks(thing.kind, finish):
            color = ""
        elif not before and not after and color != "wooden" and rng.random() < 0.08:
            return f"{_article(size + kind, rng)} that is {color}"
    return _article(f"{size}{before}{color} {kind}".replace("  ", " ").strip(), rng) + after


def _article(words: str, rng: np.random.Generator) -> str:
    draw = rng.random()
    return with_article(words) if draw < 0.8 else f"the {words}" if draw < 0.87 else words


@dataclass(frozen=True)
class Said:
    """What a prompt says of one thing; None is left open."""

    kind: str
    color: str | None = None
    finish: str | None = None
    size: str = ""

    def looks(self) -> list[Thing]:
        """The things that it may mean: one where it says the colour, else those that people expect."""
        if self.color:
            return [Thing(self.kind, self.color, self.finish or "plain", self.size)]
        return [Thing(self.kind, *look, self.size) for look in expected_looks(self.kind, self.finish)]


@dataclass(frozen=True)
class Meaning:
    """What a prompt says, as far as this world knows its words."""

    things: tuple[Said, ...]
    relation: str | None = None
    ground: str | None = None
    unknown: tuple[str, ...] = ()
    """Words that say nothing here and may be left out."""

    def looks(self) -> list[Scene]:
        """All scenes that it may mean."""
        choices = itertools.product(*(said.looks() for said in self.things))
        return [Scene(things, self.relation, self.ground) for things in choices]


class UnknownThing(UserError):
    """A prompt in which a thing is named that this world does not have; `noun` is the word."""

    def __init__(self, noun: str) -> None:
        super().__init__(f"{noun!r} is not a thing of this world")
        self.noun = noun


def _table(words: Mapping[str, tuple[str, ...]], keys: Sequence[str]) -> dict[str, str]:
    """From every word for each of `keys` to the key."""
    return {word: key for key in keys for word in words.get(key, (key,))}


_KINDS = _table(KIND_WORDS, tuple(KINDS))
_COLORS = _table(COLOR_WORDS, tuple(COLORS)) | {"wood": "wooden"}
_SIZES = _table(SIZE_WORDS, tuple(SIZES)[1:])
_FINISHES = _table(FINISH_WORDS, tuple(FINISHES)[1:]) | {
    word: finish for finish, words in PATTERN_WORDS.items() for word in words
}
_RELATIONS = _table(RELATION_WORDS, RELATIONS)
_GROUNDS = _table(GROUND_WORDS, tuple(GROUNDS))
_SMALL_WORDS = {"a", "an", "the", "one", "single", "of", "with", "that", "is", "and", "view", "made"}
_STOPS = ".,;:!?\"'()"


def parse(prompt: str) -> Meaning:
    """What a prompt says, with or without the view's words at its end.

    Raises:
        UnknownThing: a thing that is not in KINDS is named, or none at all.
    """
    text = " ".join(word.strip(_STOPS) for word in prompt.lower().replace("-", " ").split())
    for view in VIEWS:
        text = text.removesuffix(" " + view)
    for words, ground in sorted(_GROUNDS.items(), key=lambda item: -len(item[0])):
        if text.endswith(" " + words):
            said, unknown = _parse_thing(text.removesuffix(" " + words))
            return Meaning((said,), ground=ground, unknown=unknown)
    for words, relation in sorted(_RELATIONS.items(), key=lambda item: -len(item[0])):
        first, found, second = f" {text} ".partition(f" {words} ")
        if found:
            (above, odd), (below, too) = _parse_thing(first), _parse_thing(second)
            return Meaning((above, below), relation, unknown=odd + too)
    said, unknown = _parse_thing(text)
    return Meaning((said,), unknown=unknown)


def _parse_thing(text: str) -> tuple[Said, tuple[str, ...]]:
    """What is said of one thing, and the words in it that say nothing."""
    words = text.split()
    # "a dog with white spots", "a hat that is red": the noun is before, the look may be behind.
    cut = next((i for i, word in enumerate(words) if word in ("with", "that", "made")), len(words))
    kind, at = _last_kind(words[:cut])
    if kind is None:
        rest = [w for w in words[:cut] if w not in _SMALL_WORDS | set(_COLORS) | set(_SIZES) | set(_FINISHES)]
        raise UnknownThing(rest[-1] if rest else text.strip() or "nothing")
    looks = words[: at[0]] + words[at[1] :]
    behind = words[cut:]
    pattern = next((word for word in behind if word in _FINISHES), None)
    if pattern:
        # The colour of the pattern is always the same, and is not the thing's own.
        place = looks.index(pattern)
        looks = [w for i, w in enumerate(looks) if not (i == place - 1 and w in _COLORS)]
    after_noun = [word for word in words[at[1] : cut] if not _is_known(word)]
    if after_noun:
        raise UnknownThing(after_noun[-1])

    def first(table: dict[str, str]) -> str | None:
        return next((table[word] for word in looks if word in table), None)

    unknown = tuple(word for word in looks if not _is_known(word))
    return Said(kind, first(_COLORS), first(_FINISHES), first(_SIZES) or ""), unknown


def _is_known(word: str) -> bool:
    return any(word in table for table in (_COLORS, _SIZES, _FINISHES, _SMALL_WORDS))


def _last_kind(words: list[str]) -> tuple[str | None, tuple[int, int]]:
    """The last kind that is named, the longest name first, and where its words begin and end."""
    for end in range(len(words), 0, -1):
        for length in (3, 2, 1):
            name = " ".join(words[max(end - length, 0) : end])
            if end >= length and name in _KINDS:
                return _KINDS[name], (end - length, end)
    return None, (0, 0)


def vocabulary() -> list[str]:
    """Every word that a caption of this world can hold, view words included, in alphabetical order."""
    tables = (
        _KINDS,
        _table(COLOR_WORDS, tuple(COLORS)),
        _SIZES,
        _FINISHES,
        _RELATIONS,
        _GROUNDS,
        dict.fromkeys(VIEWS),
    )
    texts = [*itertools.chain(*tables), "a an the that is with"]
    return sorted({word for text in texts for word in text.split()})
