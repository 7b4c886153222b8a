"""How scenes are worded, and that what is worded is read back: nothing said that is not so, nothing lost that is said."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from rfgs.tinyworld.kinds import KINDS, NATURAL
from rfgs.tinyworld.language import (
    LONGEST,
    VIEWS,
    Mention,
    UnknownThing,
    caption,
    open_phrase,
    parse,
    phrase,
    vocabulary,
)
from rfgs.tinyworld.scenes import (
    ANY,
    COLORS,
    FINISHES,
    GROUNDS,
    RELATIONS,
    SIZES,
    THINGS,
    Scene,
    Thing,
    draw_scene,
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
from training.text import MAX_TOKENS

SETS = ("single", "surroundings", "multiple")


def single(kind: str, color: str, finish: str = "plain", size: str = "", ground: str | None = None) -> Scene:
    return Scene((Thing(kind, color, finish, size),), ground=ground)


def drawn(count: int, seed: int = 0) -> list[tuple[Scene, str]]:
    """Scenes of every set, held out or not, with one varied caption each."""
    rng = np.random.default_rng(seed)
    scenes = [draw_scene(rng, name, bool(rng.random() < 0.3)) for name in SETS for _ in range(count)]
    return [(scene, caption(scene, rng)) for scene in scenes]


# Captions


def test_the_plainest_captions() -> None:
    assert caption(single("sphere", "orange")) == "an orange sphere"
    assert caption(single("mug", "red", "dotted", "small")) == "a small dotted red mug"
    assert caption(single("duck", "orange", ground="water")) == "an orange duck on water"
    assert caption(single("tree", "green", "striped", ground="snow")) == "a striped green tree in snow"
    pair = Scene((Thing("ice cream", "red"), Thing("traffic cone", "blue")), "next to")
    assert caption(pair) == "a red ice cream next to a blue traffic cone"
    assert caption(pair, closed=False) == "an ice cream next to a traffic cone"
    assert caption(single("apple", "red"), closed=False) == "an apple" == open_phrase(Thing("apple", "red"))
    # Plaster is no word of this world: what has it is told by its kind.
    assert phrase(Thing("house", "plaster")) == "a house"
    assert phrase(Thing("house", "plaster", "striped")) == "a striped house"


@pytest.mark.parametrize("thing", THINGS[::5], ids=lambda thing: thing.name.replace(" ", "-"))
def test_the_plainest_caption_means_its_scene_and_no_other(thing: Thing) -> None:
    for size, ground in (("", None), ("big", None), ("small", "sand")):
        scene = single(thing.kind, thing.color, thing.finish, size, ground)
        assert parse(caption(scene)).looks() == [scene]
    other = Scene((thing, Thing("cube", "grey", "dotted")), "next to")
    assert parse(caption(other)).looks() == [other]


def test_every_caption_is_read_back_as_looks_that_hold_its_scene() -> None:
    for scene, text in drawn(1500):
        meaning = parse(text)
        assert scene in meaning.looks(), text
        assert meaning.unknown == (), text
        assert parse(f"{text}, {VIEWS[len(text) % 5]}") == meaning


def test_captions_use_the_vocabulary_the_right_articles_and_the_right_words_in_order() -> None:
    """By words and their places, without the parser."""
    words = set(vocabulary())
    kinds = {word: kind for kind in KINDS for word in KIND_WORDS.get(kind, (kind,))}
    kind_pattern = "|".join(sorted(kinds, key=len, reverse=True))
    colors = {word: color for color in COLORS for word in COLOR_WORDS.get(color, (color,))}
    finishes = {
        word: f for table in (FINISH_WORDS, PATTERN_WORDS) for f, said in table.items() for word in said
    }
    sizes = {word: size for size, said in SIZE_WORDS.items() for word in said}
    for scene, text in drawn(700, seed=1):
        assert set(text.split()) <= words, text
        for article, word in re.findall(r"\b(an?) (\w+)", text):
            assert article == ("an" if word[0] in "aeiou" else "a"), text
        found = [kinds[word] for word in re.findall(rf"\b({kind_pattern})\b", text)]
        assert found == [thing.kind for thing in scene.things], text
        said = text
        if scene.ground:
            ends = [end for end in GROUND_WORDS[scene.ground] if text.endswith(f" {end}")]
            assert ends, text
            said = text.removesuffix(ends[0])
        assert [sizes[w] for w in said.split() if w in sizes] == [t.size for t in scene.things if t.size], (
            text
        )
        seconds = re.findall(r"with (\w+) (?:stripes|dots|spots)", said)
        assert set(seconds) <= {second_color(thing.color) for thing in scene.things}, text
        # What is said of colors and finishes is right and in order; what is not said may be anything.
        own = re.sub(r"with \w+ (stripes|dots|spots)", r"\1", said)
        told = iter([thing.color for thing in scene.things])
        assert all(colors[word] in told for word in own.split() if word in colors), text
        told = iter([thing.finish for thing in scene.things])
        assert all(finishes[word] in told for word in own.split() if word in finishes), text
        # A look that nobody expects is always said.
        for thing in scene.things:
            if not thing.expected:
                assert thing.finish == "plain" or any(finishes.get(w) == thing.finish for w in own.split()), (
                    text
                )
        if scene.relation:
            assert any(f" {word} " in text for word in RELATION_WORDS[scene.relation]), text


def test_captions_repeat_with_the_seed_and_use_every_wording() -> None:
    def draw(scene: Scene, seed: int, count: int = 1500) -> list[str]:
        rng = np.random.default_rng(seed)
        return [caption(scene, rng) for _ in range(count)]

    scene = Scene((Thing("sphere", "red"), Thing("torus", "blue")), "on")
    assert draw(scene, 3) == draw(scene, 3) != draw(scene, 4)
    # Said and not said; with either article and none; either word.
    cubes = set(draw(single("cube", "red"), 0))
    named = {f"{color}{kind}" for color, kind in product(("red ", ""), ("cube", "box", "block"))}
    whole = {f"{article}{name}" for article, name in product(("a ", "the ", ""), named)}
    relative = {
        f"{article}{kind} that is red"
        for article, kind in product(("a ", "the ", ""), ("cube", "box", "block"))
    }
    assert whole <= cubes <= whole | relative and len(cubes & relative) > 3
    # Red is none of the colors of a cactus, so it is always told.
    assert all("red" in text for text in draw(single("cactus", "red"), 0))
    assert {"a cactus", "a green cactus", "cactus"} <= set(draw(single("cactus", "green"), 0))
    # A red mushroom has white dots where nothing is said; without them it is called red.
    assert {
        "a mushroom",
        "a dotted mushroom",
        "a mushroom with white dots",
        "a red toadstool with white spots",
    } <= set(draw(single("mushroom", "red", "dotted"), 0))
    assert all("red" in text for text in draw(single("mushroom", "red"), 0))


def test_what_is_left_open_in_captions() -> None:
    """Of the captions that training draws: a color in a good third of them, and something in more than 40 %."""
    texts = [text for _, text in drawn(2000, seed=2)]
    meanings = [parse(text) for text in texts]
    color = np.array([any(said.color is None for said in meaning.things) for meaning in meanings])
    several = np.array([len(meaning.looks()) > 1 for meaning in meanings])
    article = np.array([not re.match(r"(a|an|the) ", text) for text in texts])
    assert color.mean() > 0.33 and several.mean() > 0.1 and 0.1 < article.mean() < 0.2
    assert (color | article).mean() > 0.4


def test_no_caption_with_its_view_is_longer_than_what_models_read() -> None:
    # The longest words for everything, which are drawn about once in a million captions.
    things = (
        Thing("ice cream", "golden", "striped", "small"),
        Thing("traffic cone", "golden", "dotted", "big"),
    )
    rng = np.random.default_rng(0)
    texts = [caption(Scene(things, relation), rng) for relation in RELATIONS for _ in range(4000)]
    longest = max(len(text.split()) for text in texts)
    assert longest == LONGEST and all(
        parse(text).looks() == [Scene(things, r)] for text, r in zip(texts[::4000], RELATIONS, strict=True)
    )
    marks, comma, view = 2, 1, max(len(words.split()) for words in VIEWS)
    assert LONGEST + marks + comma + view == MAX_TOKENS


def test_the_vocabulary_is_sorted_single_words_that_all_occur_and_holds_the_view_words() -> None:
    words = vocabulary()
    assert words == sorted(set(words)) and all(re.fullmatch("[a-z]+", word) for word in words)
    rng, told = np.random.default_rng(0), {word for view in VIEWS for word in view.split()}
    for scene, text in drawn(1500):
        told |= {*text.split(), *caption(scene, rng).split()}
    assert told == set(words)


def test_no_word_means_two_things() -> None:
    for tables in (
        (KIND_WORDS, KINDS),
        (COLOR_WORDS, COLORS),
        (GROUND_WORDS, GROUNDS),
        (RELATION_WORDS, RELATIONS),
    ):
        words = [word for key in tables[1] for word in tables[0].get(key, (key,))]
        assert len(set(words)) == len(words)
    assert (
        set(KIND_WORDS) <= set(KINDS)
        and set(COLOR_WORDS) <= set(COLORS)
        and set(SIZE_WORDS) == set(SIZES) - {""}
    )
    assert set(FINISH_WORDS) == set(PATTERN_WORDS) == set(FINISHES) - {"plain"}


# Prompts


def test_what_is_not_said_is_what_people_expect() -> None:
    def looks(prompt: str) -> set[tuple[str, str, str]]:
        return {(t.color, t.finish, t.size) for scene in parse(prompt).looks() for t in scene.things}

    assert looks("a cactus") == {("green", "plain", "")}
    assert looks("a tiny cat") == {("orange", "plain", "small"), ("grey", "plain", "small")}
    assert looks("a striped cat") == {("orange", "striped", ""), ("grey", "striped", "")}
    assert looks("a mushroom") == {("red", "dotted", "")} and looks("a red mushroom") == {
        ("red", "plain", "")
    }
    assert looks("a cube") == {(color, "plain", "") for color in ANY}
    assert looks("a house") == {("plaster", "plain", "")}
    pair = parse("a cat on a mug")
    assert len(pair.looks()) == 2 * len(ANY) and {scene.relation for scene in pair.looks()} == {"on"}
    assert {kind for kind in KINDS if kind not in NATURAL} == {
        *(
            "cube",
            "sphere",
            "cylinder",
            "cone",
            "torus",
            "mug",
            "car",
            "hat",
            "umbrella",
            "lollipop",
            "present",
        )
    }


MEANT = {
    "a wooden chair": Mention("chair", "wooden"),
    "a chair made of wood": Mention("chair", "wooden"),
    "A Golden Crown.": Mention("crown", "golden"),
    "a crown of gold": Mention("crown", "golden"),
    "teddy": Mention("teddy bear"),
    "a big doughnut": Mention("donut", size="big"),
    "an ice-cream cone": Mention("ice cream"),
    "a traffic cone": Mention("traffic cone"),
    "the gray aeroplane, left side view": Mention("airplane", "grey"),
    "a hat that is striped and purple": Mention("hat", "purple", "striped"),
    "a dog with white spots": Mention("dog", None, "dotted"),
    "a violet dog with white spots": Mention("dog", "purple", "dotted"),
    "a Christmas tree": Mention("pine tree"),
    "an orange carrot": Mention("carrot", "orange"),
}


@pytest.mark.parametrize("prompt", MEANT)
def test_looks_and_synonyms_are_understood(prompt: str) -> None:
    meaning = parse(prompt)
    assert meaning.things == (MEANT[prompt],) and meaning.unknown == ()


def test_two_things_and_surroundings_are_understood() -> None:
    pair = parse("a small red cube on a big blue ball, overhead view")
    assert pair.things == (Mention("cube", "red", size="small"), Mention("sphere", "blue", size="big"))
    assert (pair.relation, pair.ground) == ("on", None)
    assert parse("a mug on top of the wooden table").relation == "on"
    assert parse("a cat beside a dog").relation == "next to"
    for ground, words in GROUND_WORDS.items():
        for said in words:
            found = parse(f"a duck {said}, back view")
            assert (found.things, found.ground, found.relation) == ((Mention("duck"),), ground, None)
    # A pair stands nowhere in particular.
    both = parse("a cat on a table in the snow")
    assert (both.relation, both.ground, both.unknown) == ("on", None, ("snow",))
    assert both.things == (Mention("cat"), Mention("table"))


HEADS = {
    "a cactus wearing a hat": (Mention("cactus"), ("wearing", "hat")),
    "a box of apples": (Mention("cube"), ("apples",)),
    "mushroom house": (Mention("house"), ("mushroom",)),
    "a photo of a fluffy cat": (Mention("cat"), ("photo", "fluffy")),
    "a cat riding a horse": (Mention("cat"), ("riding", "horse")),
    "a house with a red roof": (Mention("house"), ("roof",)),
    "a red flower with green leaves": (Mention("flower", "red"), ("leaves",)),
    "a cat and a dog": (Mention("cat"), ("dog",)),
    "a car in front of a house": (Mention("car"), ("front", "house")),
    "a polar bear": (Mention("teddy bear"), ("polar",)),
}


@pytest.mark.parametrize("prompt", HEADS)
def test_a_prompt_is_of_its_head_noun_and_the_rest_is_told_to_say_nothing(prompt: str) -> None:
    said, unknown = HEADS[prompt]
    meaning = parse(prompt)
    assert meaning.things == (said,) and meaning.unknown == unknown


MISSING = {
    "a unicorn": "unicorn",
    "an astronaut riding a horse": "astronaut",
    "a photo of a red dragon, front view": "dragon",
    "a fish bowl": "bowl",
    "a cat on a sofa": "sofa",
    "a sofa on a table": "sofa",
    # There is one of each.
    "cats": "cats",
    "two cats": "cats",
    "three red apples on a table": "apples",
    "": "nothing",
    " , ": "nothing",
    "on grass": "nothing",
    "front view": "nothing",
    "red": "red",
}


@pytest.mark.parametrize("prompt", MISSING)
def test_a_thing_that_is_not_there_is_named(prompt: str) -> None:
    with pytest.raises(UnknownThing) as raised:
        parse(prompt)
    assert raised.value.noun == MISSING[prompt] and repr(MISSING[prompt]) in str(raised.value)


def test_no_text_raises_anything_else() -> None:
    rng = np.random.default_rng(0)
    words = [
        *vocabulary(),
        *"and made of wood in , . - ' two cats unicorn wearing ä 7 \t \u201cred\u201d".split(" "),
        "",
    ]
    understood = 0
    for _ in range(6000):
        text = " ".join(words[i] for i in rng.integers(len(words), size=rng.integers(9)))
        try:
            meaning = parse(text)
        except UnknownThing as error:
            assert error.noun
        else:
            understood += 1
            assert len(meaning.things) == (2 if meaning.relation else 1) and meaning.looks()
            assert not (meaning.relation and meaning.ground)
    assert understood > 500
    for text in ("".join(map(chr, rng.integers(32, 0x2FF, size=40))) for _ in range(300)):
        with pytest.raises(UnknownThing):
            parse(text)
