"""The prompt files hold what the function gives: forty scenes a set that training never shows, spread over the kinds."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from rfgs.tinyworld import prompts
from rfgs.tinyworld.kinds import KINDS, NATURAL, SOLIDS
from rfgs.tinyworld.language import caption, vocabulary
from rfgs.tinyworld.prompts import FOLDER, PROMPT_SETS, held_out_scenes, near_misses, prompt_sets
from rfgs.tinyworld.scenes import COLORS, FINISHES, GROUNDS, RELATIONS


@pytest.mark.parametrize("prompt_set", PROMPT_SETS)
def test_forty_different_held_out_scenes_spread_over_the_kinds(prompt_set: str) -> None:
    scenes = held_out_scenes(prompt_set)
    assert len(scenes) == len(set(scenes)) == len({caption(scene) for scene in scenes}) == 40
    assert all(scene.held_out for scene in scenes)
    kinds = Counter(scene.things[0].kind for scene in scenes)
    assert len(kinds) >= 20 and max(kinds.values()) <= 2
    assert held_out_scenes(prompt_set) == scenes != held_out_scenes(prompt_set, seed=1)


def test_each_set_has_its_form() -> None:
    single, surroundings, multiple = (held_out_scenes(name) for name in PROMPT_SETS)
    assert all((len(s.things), s.relation, s.ground) == (1, None, None) for s in single)
    assert {scene.ground for scene in surroundings} == set(GROUNDS)
    assert {scene.relation for scene in multiple} == set(RELATIONS)
    assert all(len(scene.things) == 2 for scene in multiple)


def test_the_files_are_what_the_function_gives_in_words_that_the_priors_know() -> None:
    sets = prompt_sets()
    for name, lines in sets.items():
        assert (FOLDER / f"{name}.txt").read_text().splitlines() == lines
        assert {word for line in lines for word in line.split()} <= set(vocabulary())
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == sorted([*sets, "held_out"])


def test_the_list_of_what_is_held_out_equals_the_rule() -> None:
    """Told anew from the digest of each name: a first byte of at most 0x33 holds it out, a fifth of 256."""

    def hidden(name: str) -> bool:
        return hashlib.sha256(name.encode()).digest()[0] <= 0x33

    things, scenes = [], []
    unsaid = [("house", "plaster"), ("lamp", "plaster")]
    looks = [*product(KINDS, COLORS, FINISHES), *((*look, finish) for look in unsaid for finish in FINISHES)]
    for kind, color, finish in looks:
        name = f"{color} {kind}" if finish == "plain" else f"{finish} {color} {kind}"
        plain_solid = kind in SOLIDS and finish == "plain"
        expected = (color, finish) in NATURAL.get(kind, ())
        thing_is_hidden = not plain_solid and not expected and hidden(name)
        things += [name] * thing_is_hidden
        places = [f"{name} {ground[0]}" for ground in GROUNDS.values()]
        scenes += [place for place in places if thing_is_hidden or hidden(place)]
    lines = (FOLDER / "held_out.txt").read_text().splitlines()
    assert lines == things + scenes
    assert len(set(lines)) == len(lines) and len(things) == 316
    # In whatever size.
    shown = [scene for name in PROMPT_SETS[:2] for scene in held_out_scenes(name)]
    plain = [replace(scene, things=tuple(replace(t, size="") for t in scene.things)) for scene in shown]
    assert {scene.name for scene in plain} <= set(lines)


def test_main_writes_the_files(tmp_path: Path) -> None:
    prompts.main(tmp_path / "new")
    for name in ("multiple.txt", "held_out.txt"):
        assert (tmp_path / "new" / name).read_bytes() == (FOLDER / name).read_bytes()


def test_near_misses_are_all_scenes_one_word_away() -> None:
    single, ground, pair = (held_out_scenes(name)[0] for name in ("single", "surroundings", "multiple"))
    # 41 kinds, 13 colors, 3 finishes; 6 grounds; 2 relations.
    for scene, count in ((single, 40 + 12 + 2), (ground, 54 + 5), (pair, 2 * 54 + 1)):
        found = near_misses(scene)
        assert len(found) == len({caption(other) for other in found}) == count
        assert scene not in found
        for other in found:
            changed = [
                (a, b)
                for one, two in zip(scene.things, other.things, strict=True)
                for a, b in zip(vars(one).values(), vars(two).values(), strict=True)
            ] + [(scene.ground, other.ground), (scene.relation, other.relation)]
            assert sum(a != b for a, b in changed) == 1
