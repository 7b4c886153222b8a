"""What the world holds, where its things stand, and how its captions are worded."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product

import numpy as np
import pytest

from rfgs.tinyworld.scenes import (
    COLORS,
    KINDS,
    RELATIONS,
    Scene,
    Thing,
    all_scenes,
    build,
    caption,
    vocabulary,
)
from rfgs.tinyworld.tracer import TORUS, _distance


def pair(first: str, relation: str, second: str) -> Scene:
    return Scene((Thing(first, "red"), Thing(second, "blue")), relation)


def test_there_are_forty_single_things_and_every_ordered_pair_of_unequal_ones() -> None:
    scenes = all_scenes()
    assert Counter(scene.relation for scene in scenes) == {None: 40, "on": 40 * 39, "next to": 40 * 39}
    assert len({scene.name for scene in scenes}) == len(set(scenes)) == 40 + 2 * 40 * 39
    assert all(scene.things[0] != scene.things[1] for scene in scenes if scene.relation)


def test_a_fifth_of_the_pairs_of_each_relation_is_held_out_and_no_single_thing() -> None:
    for relation in RELATIONS:
        pairs = [scene for scene in all_scenes() if scene.relation == relation]
        assert 0.15 < np.mean([scene.held_out for scene in pairs]) < 0.25
    assert not any(scene.held_out for scene in all_scenes() if scene.relation is None)


def test_what_is_held_out_depends_on_the_name_alone_and_never_changes() -> None:
    # By sha256sum: the digest of a held-out name begins with a byte below 0x33, a fifth of 256.
    told = {scene.name: scene.held_out for scene in all_scenes()}
    assert (
        told["red cube on blue cylinder"]
        and told["red cube on blue cone"]
        and told["red sphere on blue cone"]
    )
    assert not told["red cube next to blue cone"] and not told["red sphere on blue cylinder"]
    assert not told["red sphere next to blue torus"]


def test_every_kind_and_colour_is_seen_in_training_on_either_side_of_each_relation() -> None:
    seen = Counter(
        (scene.relation, side, thing)
        for scene in all_scenes()
        if not scene.held_out
        for side, thing in enumerate(scene.things)
    )
    things = [Thing(kind, color) for kind in KINDS for color in COLORS]
    assert all(seen[relation, side, t] >= 20 for relation in RELATIONS for side in (0, 1) for t in things)


@pytest.mark.parametrize("first, second", list(product(KINDS, KINDS)))
def test_on_stands_above_and_touches(first: str, second: str) -> None:
    for seed in range(5):
        upper, lower = build(pair(first, "on", second), np.random.default_rng(seed))
        assert upper[1:3].tolist() == lower[1:3].tolist() == [0, 0]
        assert upper[3] > lower[3] + 0.2
        # Along the vertical line where the two could meet, the upper one begins no higher than the lower one ends.
        inside = [vertical_extent(row) for row in (upper, lower)]
        assert inside[0][0] <= inside[1][1] < inside[0][1]


def vertical_extent(row: np.ndarray) -> tuple[float, float]:
    """Lowest and highest z of one primitive, from its distance function, on the axis or on a torus's ring."""
    x = row[13] if row[0] == TORUS else 0.0
    z = np.linspace(-1.5, 1.5, 3001)
    inside = z[[_distance(row, row[1] + x, row[2], h) < 1e-3 for h in z]]
    return inside.min(), inside.max()


@pytest.mark.parametrize("first, second", list(product(KINDS, KINDS)))
def test_next_to_puts_the_first_on_the_left_seen_from_the_front_on_one_floor(first: str, second: str) -> None:
    for seed in range(5):
        left, right = build(pair(first, "next to", second), np.random.default_rng(seed))
        # A camera at +X that looks at the origin with +Z up has +Y on its right.
        assert left[2] < -0.4 and right[2] > 0.4
        assert left[1] == right[1] == 0
        floors = [vertical_extent(row)[0] for row in (left, right)]
        assert abs(floors[0] - floors[1]) < 0.01
        # They stand apart: the middle plane between them is empty.
        grid = np.linspace(-1, 1, 21)
        assert all(_distance(row, x, 0.0, z) > 0 for row in (left, right) for x in grid for z in grid)


def test_every_thing_stands_upright_in_its_own_colour() -> None:
    for scene in all_scenes()[::7]:
        for thing, row in zip(scene.things, build(scene, np.random.default_rng(1)), strict=True):
            assert row[4:13].reshape(3, 3).tolist() == np.eye(3).tolist()
            assert np.abs(row[17:20] - COLORS[thing.color]).max() <= 0.0301


def test_scenes_fit_the_ball_that_cameras_are_made_for() -> None:
    """Nothing reaches beyond 1.2, and beyond the unit ball only a little: corners of cubes and rims of cones."""
    generator = np.random.default_rng(0)
    shell = generator.normal(size=(400, 3))
    shell /= np.linalg.norm(shell, axis=1, keepdims=True)
    corners = np.array(list(product((-1, 1), repeat=3))) / np.sqrt(3)
    shell = np.concatenate([shell, corners])
    singles = [Scene((Thing(kind, "red"),)) for kind in KINDS]
    pairs = [pair(a, r, b) for a, r, b in product(KINDS, RELATIONS, KINDS)]
    for scene in singles + pairs:
        for row in build(scene, generator):
            assert min(_distance(row, *(1.2 * point)) for point in shell) > 0, scene.name
            outside = np.mean([_distance(row, *point) < 0 for point in shell[:400]])
            assert outside < 0.06, scene.name


def test_sizes_and_colours_vary_with_the_generator_and_repeat_with_its_seed() -> None:
    scene = pair("cube", "on", "cone")
    one, again, other = (build(scene, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.isclose(one[:, 13], other[:, 13]).any()
    assert not np.isclose(one[:, 17:20], other[:, 17:20]).all()


def test_the_plainest_captions() -> None:
    assert caption(Scene((Thing("sphere", "orange"),))) == "an orange sphere"
    assert caption(pair("cube", "on", "cone")) == "a red cube on a blue cone"
    assert caption(pair("torus", "next to", "cylinder")) == "a red torus next to a blue cylinder"


def test_captions_use_the_vocabulary_right_articles_and_keep_the_order() -> None:
    words, synonyms = set(vocabulary()), {"ball": "sphere", "ring": "torus", "donut": "torus", "box": "cube"}
    generator = np.random.default_rng(0)
    for scene in all_scenes():
        text = caption(scene, generator)
        assert set(text.split()) <= words, text
        for article, word in re.findall(r"\b(an?) (\w+)", text):
            assert article == ("an" if word[0] in "aeiou" else "a"), text
        named = [synonyms.get(word, word) for word in text.split()]
        assert [word for word in named if word in KINDS] == [thing.kind for thing in scene.things], text
        assert [word for word in named if word in COLORS] == [thing.color for thing in scene.things], text
        told = {"on": " on ", "next to": " (next to|beside) ", None: "^(?!.*( on | next to | beside ))"}
        assert re.search(told[scene.relation], text), text


def test_captions_repeat_with_the_seed_and_use_every_wording() -> None:
    scene = pair("sphere", "on", "torus")

    def draw(seed: int) -> list[str]:
        generator = np.random.default_rng(seed)
        return [caption(scene, generator) for _ in range(200)]

    assert draw(3) == draw(3) != draw(4)
    # Two words for the ball, three for the ring, two for "on", with and without either article.
    assert len(set(draw(3))) > 30
    single = {caption(Scene((Thing("cube", "red"),)), np.random.default_rng(seed)) for seed in range(60)}
    assert {"a red cube", "a red box", "red cube", "a cube that is red"} <= single


def test_the_vocabulary_is_sorted_single_words_and_holds_the_view_words() -> None:
    words = vocabulary()
    assert words == sorted(set(words))
    assert all(re.fullmatch("[a-z]+", word) for word in words)
    assert {"front", "side", "back", "overhead", "view"} <= set(words)
