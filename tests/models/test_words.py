"""What a model knows of a prompt's words: which things are refused, what is said, and what the documents show."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from rfgs.errors import UserError
from rfgs.models import catalog, memory
from rfgs.models.catalog import BACKENDS
from rfgs.models.vocabulary import QUALIFIERS, THINGS
from rfgs.models.words import Knowledge
from rfgs.tinyworld import language, synonyms
from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.scenes import draw_scene

ROOT = Path(__file__).parents[2]
WORLD = Knowledge("world", frozenset(language.vocabulary()))
OLD = Knowledge(
    "old",
    frozenset(
        """
        a an back ball barrel bear beside black blue box cactus candle car chair cone cream crown cube
        cylinder donut dots dotted duck fish floor front grass green hat house ice in is lamp left lollipop
        mug mushroom next of on orange overhead present purple red right ring robot rocket sailboat sand
        side snow snowman sphere stone striped stripes table teddy that to top torus traffic tree umbrella
        view water white with wooden yellow
        """.split()
    ),
    "diffusion",
)
"""A model of the world as it was: 31 kinds, without cats."""

KNOWN = """
    a cube | A RED CUBE! | "a red cube" | red, a cube | a small striped red mug | teddy bear | a teddy | an ice cream cone
    a doughnut | a gift | a cup | a christmas tree | an aeroplane | a rubber duck | a rubber-duck | a boat | a cat | a kitten
    a red mushroom with white dots | a ball that is green | a hat made of gold | a mug, left side view | a mug front view
    a mug; overhead view | a red cube on a blue cone | a cat on top of a table | a dog next to a pine tree | a fish beside a hat
    an apple on a table | a robot in snow | a castle on a wooden floor | a car on stones
    an antique wooden chair | a cat sleeping | a cat looking up | a flying car | a cat with a sword | a house made of gingerbread
    a statue of a cat | a DSLR photo of a dog | a cat, highly detailed, 4k | a cat. It has a guitar | a red and white cube
    a cat and a dog | a cat in a box | a dog wearing a helmet | a cat with a bowl of fruit | a cat sitting on grass
    a cup of coffee | a box of chocolates | a cup of water | on a table
""".replace("\n", "|").split("|")

UNKNOWN = {
    "horse": "horse",
    "A Horse!": "horse",
    "an antique wooden rocking horse": "horse",
    "a horse running": "horse",
    "a horse on a table": "horse",
    "a cube on a horse": "horse",
    "a red cube next to the tall horse": "horse",
    "a cat playing guitar": "guitar",
    "a robot riding a horse": "horse",
    "an astronaut riding a horse": "astronaut",
    "a photo of a horse": "horse",
    "a photo of a cat playing guitar": "guitar",
    "a bar of gold": "bar",
    "a pile of cubes": "cubes",
    "a horse, 4k": "horse",
    "a horse with a red hat": "horse",
    "a horse that is red": "horse",
    "a traffic light": "light",
    "ice": "ice",
    "cat food": "food",
    "a car door": "door",
    "a tall building": "building",
    "an old bed": "bed",
    "a cat in the forest": "forest",
    "grass on a table": "grass",
    "cats": "cats",
    "two red cubes": "cubes",
    "an orange": "an orange",
    "a big red": "a big red",
    "ein Kaktus": "kaktus",
    "кошка": "кошка",
    "一只猫": "一只猫",
    "🐴": "🐴",
    "???": "???",
    " ?\n!\n": "? !",
    "": "nothing",
    "a": "a",
    "on": "on",
    "of": "of",
    "with": "with",
    "x" * 1000: "x" * 1000,
}


@pytest.mark.parametrize("prompt", [prompt.strip() for prompt in KNOWN if prompt.strip()])
def test_a_prompt_of_known_things_passes(prompt: str) -> None:
    assert WORLD.unknown_thing(prompt) is None
    WORLD.check({"": prompt})


@pytest.mark.parametrize("prompt", UNKNOWN)
def test_an_unknown_thing_is_found_and_told_in_one_line(prompt: str) -> None:
    assert WORLD.unknown_thing(prompt) == UNKNOWN[prompt]
    with pytest.raises(UserError, match="^[^\n]+ is not among the 41 things that world knows[^\n]+$"):
        WORLD.check({"": prompt})
    WORLD.check({"": prompt}, any_words=True)


def test_the_things_are_those_of_the_world() -> None:
    """Two tables, since the world's own takes a second to import."""
    world = {name: kind for kind in KINDS for name in synonyms.KIND_WORDS.get(kind, (kind,))}
    assert {name: kind for kind, names in THINGS.items() for name in names} == world
    assert WORLD.things == world and list(THINGS) == list(KINDS)
    assert set(language.vocabulary()) - {word for name in world for word in name.split()} <= QUALIFIERS


@pytest.mark.parametrize("prompt_set", ["single", "surroundings", "multiple"])
def test_captions_of_the_world_pass_and_the_parser_agrees(prompt_set: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        caption = language.caption(draw_scene(rng, prompt_set), rng)
        for prompt in (caption, f"{caption}, back view", caption.upper()):
            assert WORLD.check({"": prompt}) == "" and language.parse(prompt).unknown == ()


@pytest.mark.parametrize("prompt", [prompt for prompt, word in UNKNOWN.items() if word.isascii()])
def test_what_is_refused_the_parser_does_not_take_either(prompt: str) -> None:
    try:
        meaning = language.parse(prompt)
    except language.UnknownThing:
        return
    # It leaves out what comes before the last thing, and what it takes for a look.
    assert set(UNKNOWN[prompt].split()) <= {*meaning.unknown, "orange"}, meaning


def test_nearest_by_meaning_and_by_spelling() -> None:
    near = {
        "horse": ["dog", "cat"],
        "horses": ["dog", "cat"],
        "bird": ["duck", "penguin"],
        "ponies": ["dog"],
        "ship": ["sailboat"],
        "person": ["robot", "snowman"],
        "cubes": ["cube"],
        "boxes": ["cube"],
        "mushrom": ["mushroom"],
        "kaktus": ["cactus"],
        "ice": ["ice cream"],
        "an orange": ["apple"],
        "dragon": [],
        "dinosaur": [],
        "sword": [],
        "кошка": [],
        "x" * 1000: [],
    }
    assert {word: WORLD.nearest(word) for word in near} == near
    # What it knows under another name comes first, and what it does not know never.
    assert OLD.nearest("cup") == ["mug"] and OLD.nearest("horse") == [] and OLD.nearest("kitten") == []


BIG = "--backend flux2-klein knows nearly everything and needs a GPU of 12 GiB or more"


def test_the_refusal_names_the_word_the_nearest_and_the_ways_on() -> None:
    assert WORLD.refusal("horse") == (
        f'"horse" is not among the 41 things that world knows; nearest: dog, cat; {BIG}; '
        "--any-words goes on all the same"
    )
    assert WORLD.refusal("dragon") == (
        f'"dragon" is not among the 41 things that world knows; {BIG}; --any-words goes on all the same; '
        f"what it knows: {', '.join(KINDS)}"
    )
    # No longer than a line that one can read, whatever is typed.
    assert '"' + "x" * 39 + "…" + '" is not among' in WORLD.refusal("x" * 1000)
    assert 8 * memory.GIB < memory.least("flux2-klein") <= 12 * memory.GIB


def test_a_backend_of_the_package_that_knows_the_thing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {backend.name: tmp_path / backend.name for backend in BACKENDS if not backend.hub_id}
    for name, folder in folders.items():
        folder.mkdir()
        words = ["a", "cat", "red"] if name == "tiny-sd3" else ["a", "cube", "red"]
        family = {"tiny-sd": "sd", "tiny-instaflow": "instaflow"}.get(name, "sd3")
        (folder / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
        (folder / "rfgs.json").write_text(json.dumps({"family": family, "vocabulary": words}))
    monkeypatch.setattr(catalog, "embedded_folder", lambda backend: folders[backend.name])
    one = '"cat" is not among the 1 thing that tiny-instaflow knows; --backend tiny-sd3 knows it; '
    assert Knowledge.of("tiny-instaflow").refusal("cat").startswith(one)
    other = "; --backend tiny-sd3 --guidance rfds-rev knows it; "
    assert other in Knowledge.of("tiny-sd").refusal("cat")
    # What no rectified flow knows is asked of a diffusion model where a diffusion model was asked.
    assert "; --backend sd15 knows nearly everything and needs a GPU of 8 GiB or more; " in Knowledge.of(
        "tiny-sd"
    ).refusal("horse")


def test_each_model_is_asked_for_its_own_words(tmp_path: Path) -> None:
    assert "cat" not in OLD.things and len(set(OLD.things.values())) == 31
    assert OLD.unknown_thing("a cat") == "cat" and OLD.unknown_thing("a red cube") is None
    assert OLD.unknown_thing("a christmas tree") is None and OLD.unknown_words("a christmas tree") == [
        "christmas"
    ]
    # Any text makes sense to big models; damaged files are for others to tell.
    assert Knowledge.of("sd3").check({"": "a horse"}) == "" and Knowledge.of("sd15").kind == "diffusion"
    assert Knowledge.of("owner/name") == Knowledge("owner/name", None)
    for text in ("", "{", "[]", "{}", '{"vocabulary": null}', '{"vocabulary": [1]}'):
        (tmp_path / "rfgs.json").write_text(text)
        assert Knowledge.of(str(tmp_path)).vocabulary is None
    # A world of which nothing is known here: what is no color and no preposition is a thing.
    (tmp_path / "rfgs.json").write_text('{"vocabulary": ["A", "zebra", "red", "on"]}')
    zebras = Knowledge.of(str(tmp_path))
    assert zebras.unknown_thing("a red Zebra on a zebra") is None and zebras.unknown_thing("a cube") == "cube"


def test_remarks() -> None:
    assert WORLD.remark("a cube made of gold", "") == ""
    assert WORLD.remark("an antique cube") == 'world knows a small world only, and not the word "antique"'
    assert WORLD.remark("an antique cube, foggy", "Foggy night").endswith(
        'the words "antique", "foggy", "night"'
    )
    assert WORLD.remark(" ".join(map(str, range(30)))).endswith('"6", "7" and 22 more')
    assert (
        WORLD.check({"": "a cube"}, "horses") == 'world knows a small world only, and not the word "horses"'
    )
    with pytest.raises(UserError, match=r'^--to: "horse" is not'):
        WORLD.check({"--from": "a cube", "--to": "a horse"})


def test_the_documents_show_prompts_that_the_world_knows() -> None:
    found: dict[str, str] = {}
    for page in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "cli").glob("*.py")),
    ):
        text = page.read_text(encoding="utf-8")
        before = r"such as " if page.suffix == ".py" else ""
        quoted = re.findall(before + r'"((?:a|an|the) [^"]+)"', " ".join(text.split()))
        commands = re.findall(r'rfgs (?:generate|image) "([^"]+)"', text)
        found.update(dict.fromkeys([*quoted, *commands], page.name))
    found.pop("PROMPT", None)
    assert {"a cactus", "a red cube on a blue cylinder"} <= set(found)
    refused = {prompt for prompt in found if WORLD.unknown_thing(prompt)}
    assert refused == REFUSED_ON_PURPOSE
    for prompt in set(found) - refused:
        assert language.parse(prompt).unknown == (), found[prompt]
        assert WORLD.unknown_words(prompt) == [], found[prompt]


REFUSED_ON_PURPOSE = {"a horse", "an antique wooden rocking horse"}
"""README's example of what is refused, and its example for Stable Diffusion 3."""


def test_the_readme_shows_the_refusal_as_it_is() -> None:
    model = Knowledge("tiny-sd3", WORLD.vocabulary)
    shown = f'    $ rfgs generate "a horse"\n    rfgs: {model.refusal("horse")}\n'
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")
