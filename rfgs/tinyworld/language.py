"""How the tiny world is told in words: captions of scenes, and what a prompt may mean.

People leave things open: "a cactus" says no color, and is green. A caption says of a thing's look only what tells it from
what people expect; what has no expected look comes in any one color. `parse` reads a prompt the same way round.
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
from rfgs.tinyworld.synonyms import (
    COLOR_WORDS,
    FINISH_WORDS,
    GROUND_WORDS,
    KIND_WORDS,
    PATTERN_WORDS,
    RELATION_WORDS,
    SIZE_WORDS,
)

LONGEST = 18
"""Words of a caption at most; with a comma, three words for the view and two marks they are the 24 tokens that models read."""
VIEWS = ("front view", "left side view", "back view", "right side view", "overhead view")


def with_article(words: str) -> str:
    """ "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def phrase(thing: Thing) -> str:
    """A thing in the plainest words that leave nothing open, such as "a small striped red mug"."""
    color = "" if thing.color not in COLORS else thing.color
    finish = "" if thing.finish == "plain" or (not color and thing.expected) else thing.finish
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

    text = said[0]
    if scene.relation:
        text = f" {choose(RELATION_WORDS[scene.relation])} ".join(said)
    elif scene.ground:
        text = f"{text} {choose(GROUND_WORDS[scene.ground])}"
    # Two things with sizes and patterns told at length: the view would be cut off.
    return caption(scene) if len(text.split()) > LONGEST else text


def _plainest(options: tuple[str, ...]) -> str:
    return options[0]


def _varied_phrase(thing: Thing, rng: np.random.Generator) -> str:
    """A thing in words that vary, of which some leave its color, finish or article open."""

    def word(table: Mapping[str, tuple[str, ...]], key: str) -> str:
        options = table.get(key, (key,))
        return options[0] if rng.random() < 0.7 else options[rng.integers(len(options))]

    kind, color = word(KIND_WORDS, thing.kind), word(COLOR_WORDS, thing.color)
    size = f"{word(SIZE_WORDS, thing.size)} " if thing.size else ""
    leaves_look, leaves_color = rng.random() < 0.6, rng.random() < 0.3
    before, after = "", ""
    # Some colors that people expect have no word, such as a house's.
    color = color if thing.color in COLORS else ""
    if thing.expected and (leaves_look or not color):
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
        elif color not in ("", "wooden") and not before and not after and rng.random() < 0.08:
            return f"{_article(size + kind, rng)} that is {color}"
    return _article(f"{size}{before}{color} {kind}".replace("  ", " ").strip(), rng) + after


def _article(words: str, rng: np.random.Generator) -> str:
    draw = rng.random()
    return with_article(words) if draw < 0.8 else f"the {words}" if draw < 0.87 else words


@dataclass(frozen=True)
class Mention:
    """What a prompt says of one thing; None is left open."""

    kind: str
    color: str | None = None
    finish: str | None = None
    size: str = ""

    def looks(self) -> list[Thing]:
        """The things that it may mean: one where it says the color, else those that people expect."""
        if self.color:
            return [Thing(self.kind, self.color, self.finish or "plain", self.size)]
        return [Thing(self.kind, *look, self.size) for look in expected_looks(self.kind, self.finish)]


@dataclass(frozen=True)
class Meaning:
    """What a prompt says, as far as this world knows its words."""

    things: tuple[Mention, ...]
    relation: str | None = None
    ground: str | None = None
    unknown: tuple[str, ...] = ()
    """Words that say nothing here and may be left out."""

    def looks(self) -> list[Scene]:
        """All scenes that it may mean."""
        choices = itertools.product(*(said.looks() for said in self.things))
        return [Scene(things, self.relation, self.ground) for things in choices]

    def allows(self, scene: Scene) -> bool:
        """Whether it may mean `scene`: whether that is one of its looks."""
        if (self.relation, self.ground, len(self.things)) != (
            scene.relation,
            scene.ground,
            len(scene.things),
        ):
            return False
        pairs = zip(self.things, scene.things, strict=True)
        return all(said.kind == thing.kind and thing in said.looks() for said, thing in pairs)


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
_AFTER_NOUN = set(
    "a an the with without that which made of in on at under over by near from for to and or is has".split()
)
"""What no name of a thing goes on with: a noun before one of these stands whole."""
_STOPS = ".,;:!?\"'()\u2018\u2019\u201c\u201d\u2026"


def parse(prompt: str) -> Meaning:
    """What a prompt says, with or without the view's words at its end.

    Raises:
        UnknownThing: a thing that is not in KINDS is named, several of one are ("cats"), or none at all.
    """
    text = " ".join(word.strip(_STOPS) for word in prompt.lower().replace("-", " ").split())
    text = f" {' '.join(text.split())}"
    for view in VIEWS:
        text = text.removesuffix(f" {view}")
    ground = None
    for words, name in sorted(_GROUNDS.items(), key=lambda item: -len(item[0])):
        if text.endswith(f" {words}"):
            text, ground = text.removesuffix(f" {words}"), name
            break
    for words, relation in sorted(_RELATIONS.items(), key=lambda item: -len(item[0])):
        first, found, second = f"{text} ".partition(f" {words} ")
        if found and first.strip() and second.strip():
            (above, odd), (below, too) = _parse_thing(first), _parse_thing(second)
            # Pairs stand nowhere in particular.
            return Meaning((above, below), relation, unknown=odd + too + ((ground,) if ground else ()))
    said, unknown = _parse_thing(text)
    return Meaning((said,), ground=ground, unknown=unknown)


def _parse_thing(text: str) -> tuple[Mention, tuple[str, ...]]:
    """What is said of one thing, and the words in it that say nothing."""
    words = text.split()
    begin, end, stop = _head(words)
    if begin == end:
        raise UnknownThing(_missing(words))
    after = [word for word in words[end:stop] if not _is_known(word)]
    if after:
        # "a fish bowl" is no fish.
        raise UnknownThing(after[-1])
    before, behind = words[:begin] + words[end:stop], words[stop:]
    pattern = next((word for word in behind if word in _FINISHES), None)
    # "a hat that is red", but "a house with a red roof": the roof is; and the color of a pattern is always the same.
    colored = before + (behind if behind[:1] in (["that"], ["made"], ["of"]) else [])

    def first(table: dict[str, str], looks: list[str]) -> str | None:
        return next((table[word] for word in looks if word in table), None)

    finish = first(_FINISHES, [*before, pattern] if pattern else before)
    unknown = tuple(word for word in before + behind if not _is_known(word) and word not in _AFTER_NOUN)
    kind = _KINDS[" ".join(words[begin:end])]
    return Mention(kind, first(_COLORS, colored), finish, first(_SIZES, before) or ""), unknown


def _is_known(word: str) -> bool:
    return any(word in table for table in (_COLORS, _SIZES, _FINISHES, _SMALL_WORDS))


def _ends_noun(word: str) -> bool:
    """Whether a noun before `word` stands whole: "a cactus wearing a hat" is a cactus."""
    return word in _AFTER_NOUN or word.endswith("ing")


def _head(words: list[str]) -> tuple[int, int, int]:
    """Where the name of the thing begins and ends, and where what is told of it behind its name begins.

    It is the last kind before a word that ends nouns, the longest name first; begin and end are the same where there is none.
    """
    begin = end = i = 0
    while i < len(words):
        name = next((n for n in (3, 2, 1) if " ".join(words[i : i + n]) in _KINDS and i + n <= len(words)), 0)
        if name:
            begin, end = i, i + name
        elif end and _ends_noun(words[i]):
            break
        i += max(name, 1)
    return begin, end, i


def _missing(words: list[str]) -> str:
    """The noun of words that name no kind: the last before a word that ends it, but what a picture is of, not the picture."""
    noun = ""
    for word in words:
        if noun and _ends_noun(word) and word not in ("of", "a", "an", "the"):
            break
        if not _is_known(word) and not _ends_noun(word):
            noun = word
    return noun or " ".join(words) or "nothing"


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
