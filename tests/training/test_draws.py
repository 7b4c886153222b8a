"""What training draws: captions that tell what is shown, colors that are never held out, and which pictures are alike."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from rfgs.tinyworld.language import VIEWS, parse, vocabulary
from rfgs.tinyworld.pictures import recolor
from rfgs.tinyworld.scenes import COLORS, PAINTS, Scene, Thing, draw_scene, expected_looks, second_color
from training.draws import EXACT_ABOVE, Draw, Draws, draw_times
from training.text import MAX_TOKENS, write_tokenizer

SETS = ("single", "surroundings", "multiple")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(vocabulary(), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def draws(tokenizer: CLIPTokenizer) -> Draws:
    """Those of 300 scenes."""
    rng = np.random.default_rng(4)
    scenes = [draw_scene(rng, name) for name in SETS for _ in range(100)]
    return Draws(scenes, [VIEWS[i] for i in rng.integers(len(VIEWS), size=300)], tokenizer)


def scenes_shown(drawn: Draw, draws: Draws) -> list[Scene]:
    """What the pictures of a draw show, from their shapes and the colors that they were given."""
    paints = {tuple(np.float32(value).tolist()): name for name, value in PAINTS.items()}
    shown = []
    for number, colors in zip(drawn.pick.tolist(), drawn.colors, strict=True):
        scene = draws.scenes[number]
        things = []
        for place, thing in enumerate(scene.things):
            own, second = colors[2 * place].tolist(), colors[2 * place + 1]
            name = paints[tuple(own)]
            assert second.tolist() == pytest.approx(COLORS[second_color(name)])
            things.append(Thing(thing.kind, name, thing.finish, thing.size))
        assert not colors[2 * len(things) :].any()
        shown.append(Scene(tuple(things), scene.relation, scene.ground))
    return shown


def told(ids: Tensor, tokenizer: CLIPTokenizer) -> tuple[str, str]:
    """A caption and its view's words, "" where there are none."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    said, _, view = text.partition(",")
    return said.strip(), view.strip()


def test_times_are_half_logit_normal_and_half_uniform() -> None:
    t = draw_times(100_000, torch.Generator().manual_seed(0))
    assert 0 < t.min() and t.max() < 1
    for level in (0.05, 0.25, 0.5, 0.9):
        normal = torch.distributions.Normal(0.0, 1.0).cdf(torch.logit(torch.tensor(level))).item()
        assert (t < level).float().mean().item() == pytest.approx((normal + level) / 2, abs=0.006)


def test_no_caption_of_training_says_or_shows_what_is_held_out_and_all_tell_what_is_shown(
    draws: Draws, tokenizer: CLIPTokenizer
) -> None:
    generator = torch.Generator().manual_seed(0)
    shares: Counter[str] = Counter()
    for _ in range(20):
        drawn = draws.draw(128, 8, generator)
        assert drawn.ids.shape == (128, MAX_TOKENS)
        for number, scene, ids in zip(
            drawn.pick.tolist(), scenes_shown(drawn, draws), drawn.ids, strict=True
        ):
            assert not scene.held_out, scene.name
            said, view = told(ids, tokenizer)
            shares["empty"] += said == ""
            shares["no view"] += said != "" and view == ""
            if not said:
                assert not view
                continue
            assert view in ("", draws.views[number])
            meaning = parse(said)
            looks = meaning.looks()
            assert scene in looks and meaning.unknown == (), (said, scene.name)
            # A caption that can mean one look only is thereby none of something held out.
            assert len(looks) > 1 or not looks[0].held_out
            open_color = any(thing.color is None for thing in meaning.things)
            no_article = not said.startswith(("a ", "an ", "the "))
            shares["open"] += open_color or no_article or not view
            shares["open look"] += open_color
    count = 20 * 128
    assert shares["empty"] / count == pytest.approx(0.1, abs=0.025)
    assert shares["no view"] / count == pytest.approx(0.1, abs=0.025)
    # Nothing at all is said in the empty ones; of the others more than 40 % leave something open.
    assert shares["open"] / (count - shares["empty"]) > 0.4
    assert shares["open look"] / (count - shares["empty"]) > 0.28


def test_a_draw_is_over_every_grey_and_in_every_color(draws: Draws) -> None:
    drawn = draws.draw(3000, 1, torch.Generator().manual_seed(0))
    assert torch.histc(drawn.grey, 10, 0, 1).min() > 200
    colors = Counter(thing.color for scene in scenes_shown(drawn, draws) for thing in scene.things)
    assert set(COLORS) <= set(colors) and len(drawn.pick.unique()) == len(draws.scenes)


def test_draws_repeat_with_the_generator(draws: Draws) -> None:
    one, again, other = (draws.draw(20, 8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    for name, value in vars(one).items():
        assert torch.equal(value, getattr(again, name)), name
    assert not torch.equal(one.pick, other.pick) and not torch.equal(one.ids, other.ids)


def test_plain_draws_are_as_drawn_in_the_plainest_captions(draws: Draws, tokenizer: CLIPTokenizer) -> None:
    pick, grey = torch.tensor([5, 160, 219]), torch.tensor([0.0, 0.5, 1.0])
    drawn = draws.plain(pick, grey)
    assert torch.equal(drawn.pick, pick) and torch.equal(drawn.grey, grey) and len(drawn.rows) == 0
    assert scenes_shown(drawn, draws) == [draws.scenes[number] for number in pick.tolist()]
    for ids, number in zip(drawn.ids, pick.tolist(), strict=True):
        said, view = told(ids, tokenizer)
        # What has no sayable color is told by its kind.
        assert draws.scenes[number] in parse(said).looks() and view == draws.views[number]


def test_more_pictures_are_drawn_from_when_they_are_there(tokenizer: CLIPTokenizer) -> None:
    mug, cube = Scene((Thing("mug", "red"),)), Scene((Thing("cube", "red"),))
    draws = Draws([mug], ["front view"], tokenizer)
    assert len(draws.draw(200, 8, torch.Generator().manual_seed(0)).rows) == 0
    draws.add([cube, mug], ["front view", "front view"])
    drawn = draws.draw(200, 8, torch.Generator().manual_seed(0))
    assert drawn.pick.unique().tolist() == [0, 1, 2] and len(drawn.rows) > 50
    assert draws.scenes == [mug, cube, mug] and draws.seen.shape == (3, 13)


# Recoloring


@pytest.mark.parametrize("prompt_set", SETS)
def test_recoloring_keeps_shapes_and_shows_nothing_that_is_held_out(prompt_set: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(1500):
        scene = draw_scene(rng, prompt_set)
        other = recolor(scene, rng)
        assert not other.held_out, other.name
        assert (other.relation, other.ground) == (scene.relation, scene.ground)
        for before, after in zip(scene.things, other.things, strict=True):
            assert (before.kind, before.finish, before.size) == (after.kind, after.finish, after.size)
            natural = {color for color, _ in expected_looks(after.kind)}
            assert after.color in COLORS or after.color in natural
        assert len({thing.unsized for thing in other.things}) == len(other.things)


def test_half_of_the_things_get_a_color_that_people_expect_whatever_their_finish() -> None:
    rng = np.random.default_rng(0)
    for thing, expected in (
        (Thing("cactus", "red"), {"green"}),
        (Thing("cat", "red", "striped"), {"orange", "grey"}),
        (Thing("house", "blue"), {"plaster"}),
        (Thing("mushroom", "blue", "dotted"), {"red"}),
    ):
        colors = Counter(recolor(Scene((thing,)), rng).things[0].color for _ in range(3000))
        share = sum(colors[color] for color in expected) / 3000
        # Half, a few by chance, and more where some of the other colors are held out.
        assert 0.42 < share < 0.72, (thing.name, colors)
        shown = {c for c in {*COLORS, *expected} if not Thing(thing.kind, c, thing.finish).held_out}
        assert set(colors) == shown, thing.name


# Which pictures are alike


def test_pictures_are_alike_that_differ_in_colors_alone(tokenizer: CLIPTokenizer) -> None:
    def single(*thing: str, ground: str | None = None) -> Scene:
        return Scene((Thing(*thing),), ground=ground)

    scenes = [
        *(single("mug", "red"), single("mug", "blue"), single("mug", "blue", "striped")),
        *(single("mug", "blue", "plain", "big"), single("mug", "red", ground="sand"), single("mug", "red")),
        Scene((Thing("mug", "red"), Thing("cube", "red")), "on"),
        Scene((Thing("mug", "red"), Thing("cube", "blue")), "on"),
        Scene((Thing("mug", "red"), Thing("cube", "blue")), "next to"),
    ]
    views = ["front view"] * 5 + ["back view"] + 3 * ["front view"]
    draws = Draws(scenes, views, tokenizer)
    others = {}
    for seed in range(40):
        drawn = draws.draw(30, 8, torch.Generator().manual_seed(seed))
        others |= dict(zip(drawn.pick[drawn.rows].tolist(), drawn.others.tolist(), strict=True))
    assert others == {own: [other] + 6 * [-1] for own, other in ((0, 1), (1, 0), (6, 7), (7, 6))}


def test_others_are_asked_above_a_level_only_and_the_sample_itself_is_none_of_them(
    tokenizer: CLIPTokenizer,
) -> None:
    draws = Draws([Scene((Thing("mug", "red"),))] * 30, ["front view"] * 30, tokenizer)
    drawn = draws.draw(500, 5, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.rows, (drawn.t > EXACT_ABOVE).nonzero()[:, 0]) and drawn.others.shape[1] == 4
    assert (drawn.others >= 0).all() and not (drawn.others == drawn.pick[drawn.rows, None]).any()
    assert all(len(set(row)) == 4 for row in drawn.others.tolist())
    assert len(drawn.others.unique()) == 30
    assert len(draws.draw(500, 1, torch.Generator().manual_seed(0)).rows) == 0
