"""Latents of pictures in any colours against pictures that were rendered so; batches that tell what they show; exact targets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from rfgs.cameras import orbit
from rfgs.tinyworld import data, latents
from rfgs.tinyworld.data import scene_of, thing_colors
from rfgs.tinyworld.language import VIEWS, parse, vocabulary
from rfgs.tinyworld.latents import PARTS, Batch, Latents, encode_layers, recolor
from rfgs.tinyworld.prior import EXACT_ABOVE, flow_targets
from rfgs.tinyworld.scenes import (
    COLORS,
    PAINTS,
    Scene,
    Thing,
    build,
    draw_scene,
    expected_looks,
    second_color,
)
from rfgs.tinyworld.text import MAX_TOKENS, write_tokenizer
from rfgs.tinyworld.tracer import render_layers, render_scene

PIXELS = 32
SETS = ("single", "surroundings", "multiple")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(vocabulary(), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def encoder() -> tuple[Tensor, Tensor]:
    """Any linear encoder."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 3, 8, 8, generator=generator) / 14, torch.randn(16, generator=generator)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, tokenizer, encoder) -> Latents:
    """120 training pictures of 32 x 32 pixels, rendered and encoded by the stages of the training."""
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SHARD", 60)
        patch.setattr(data, "IMAGE_SIZE", PIXELS)
        list(data.render_dataset(work / "data", 120, seed=4, workers=1))
    latents.encode_dataset(work, 0, encoder)
    assert torch.equal(torch.load(work / "latents.pt", weights_only=True)["kernel"], encoder[0])
    return latents.load_latents(work, tokenizer)


def scenes_shown(drawn: Batch, stored: Latents) -> list[Scene]:
    """What the pictures of a batch show, from their shapes and the colours that they were given."""
    paints = {tuple(np.float32(value).tolist()): name for name, value in PAINTS.items()}
    shown = []
    for number, colors in zip(drawn.pick.tolist(), drawn.colors, strict=True):
        scene = stored.scenes[number]
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


def test_a_picture_in_other_colours_is_what_is_rendered_in_them(encoder) -> None:
    """Over any grey too: rendering, colouring and encoding commute, to the rounding of half precision."""
    rng = np.random.default_rng(0)
    camera = orbit(30, 20, 3.2, 40, PIXELS, PIXELS)
    view = camera.viewmats.numpy(), camera.Ks.numpy(), PIXELS, PIXELS
    scenes = [draw_scene(rng, name) for name in SETS for _ in range(8)]
    layers = [
        render_layers(build(scene, np.random.default_rng(i)), *view)[0] for i, scene in enumerate(scenes)
    ]
    parts = encode_layers(torch.from_numpy(np.stack(layers)), *encoder).half()
    assert parts.shape == (24, PARTS, 16, PIXELS // 8, PIXELS // 8)
    data_ = Latents(parts, scenes, ["front view"] * 24, None)
    shown = [recolor(scene, rng) for scene in scenes]
    assert sum(a != b for a, b in zip(scenes, shown, strict=True)) > 12
    colors = torch.from_numpy(np.stack([thing_colors(scene) for scene in shown]))
    objects, backdrops = data_.shown(torch.arange(24), colors)
    assert objects.dtype == backdrops.dtype == torch.float32
    rgba = np.stack(
        [render_scene(build(scene, np.random.default_rng(i)), *view)[0] for i, scene in enumerate(shown)]
    )
    picture = torch.from_numpy(rgba).movedim(-1, 1)
    for grey in (0.0, 0.3, 1.0):
        over = picture[:, :3] + (1 - picture[:, 3:]) * grey
        expected = F.conv2d(over, encoder[0], encoder[1], stride=8)
        torch.testing.assert_close(objects + grey * backdrops, expected, atol=4e-3, rtol=0)


def test_parts_that_are_passed_over_are_zero(stored: Latents) -> None:
    """All parts are summed here: second colours of plain things and the colours of a second thing that is not there too."""
    colors = torch.rand(len(stored), 4, 3, generator=torch.Generator().manual_seed(0))
    objects, backdrops = stored.shown(torch.arange(len(stored)), colors)
    weights = F.pad(colors.flatten(1), (0, 1), value=1.0)
    everything = torch.einsum("np,npchw->nchw", weights, stored.parts[:, :-1].float())
    torch.testing.assert_close(objects, everything, atol=1e-5, rtol=1e-5)
    assert torch.equal(backdrops, stored.parts[:, -1].float())
    # In any order, and several times.
    pick = torch.tensor([7, 3, 7])
    torch.testing.assert_close(stored.shown(pick, colors[pick])[0], objects[pick])


def test_no_caption_of_training_says_or_shows_what_is_held_out_and_all_tell_what_is_shown(
    stored: Latents, tokenizer: CLIPTokenizer
) -> None:
    generator = torch.Generator().manual_seed(0)
    shares: Counter[str] = Counter()
    for _ in range(20):
        drawn = stored.batch(128, generator)
        assert drawn.x.shape == (128, 16, 4, 4) and drawn.ids.shape == (128, MAX_TOKENS)
        for number, scene, ids in zip(
            drawn.pick.tolist(), scenes_shown(drawn, stored), drawn.ids, strict=True
        ):
            assert not scene.held_out, scene.name
            said, view = told(ids, tokenizer)
            shares["empty"] += said == ""
            shares["no view"] += said != "" and view == ""
            if not said:
                assert not view
                continue
            assert view in ("", stored.views[number])
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


def test_a_batch_is_over_every_grey_and_in_every_colour(stored: Latents) -> None:
    drawn = stored.batch(1500, torch.Generator().manual_seed(0))
    behind = drawn.backdrops.flatten(1)
    grey = ((drawn.x - drawn.objects).flatten(1) * behind).sum(1) / behind.square().sum(1)
    assert torch.histc(grey, 10, 0, 1).min() > 100
    torch.testing.assert_close(
        drawn.x, drawn.objects + grey[:, None, None, None] * drawn.backdrops, atol=1e-4, rtol=0
    )
    objects, backdrops = stored.shown(drawn.pick, drawn.colors)
    assert torch.equal(objects, drawn.objects) and torch.equal(backdrops, drawn.backdrops)
    colors = Counter(thing.color for scene in scenes_shown(drawn, stored) for thing in scene.things)
    assert set(COLORS) <= set(colors) and len(drawn.pick.unique()) == len(stored)


def test_batches_repeat_with_the_generator(stored: Latents) -> None:
    one, again, other = (stored.batch(20, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    for name, value in vars(one).items():
        assert torch.equal(value, getattr(again, name)), name
    assert not torch.equal(one.x, other.x) and not torch.equal(one.ids, other.ids)


def test_plain_pictures_are_as_drawn_in_the_plainest_captions(stored: Latents, tokenizer) -> None:
    pick = torch.tensor([5, 60, 119])
    x, ids = stored.plain(pick, torch.tensor([0.0, 0.5, 1.0]))
    for i, number in enumerate(pick.tolist()):
        said, view = told(ids[i], tokenizer)
        # What has no sayable colour is told by its kind.
        assert stored.scenes[number] in parse(said).looks() and view == stored.views[number]
        colors = torch.from_numpy(thing_colors(stored.scenes[number]))[None]
        objects, backdrops = stored.shown(pick[i : i + 1], colors)
        torch.testing.assert_close(x[i : i + 1], objects + 0.5 * i * backdrops)


def test_the_last_samples_are_kept_for_measuring(stored: Latents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "_CHECK", 30)
    kept, measured = latents.split(stored)
    assert (len(kept), len(measured)) == (90, 30)
    assert measured.scenes == stored.scenes[90:] and measured.views == stored.views[90:]
    assert torch.equal(measured.parts, stored.parts[90:]) and kept.tokenizer is stored.tokenizer
    # Pictures of the other half are nobody's others.
    assert kept.has_others(torch.arange(90)).sum() <= stored.has_others(torch.arange(90)).sum()
    kept.batch(4, torch.Generator().manual_seed(0))


# Recolouring


@pytest.mark.parametrize("prompt_set", SETS)
def test_recolouring_keeps_shapes_and_shows_nothing_that_is_held_out(prompt_set: str) -> None:
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


def test_half_of_the_things_get_a_colour_that_people_expect_whatever_their_finish() -> None:
    rng = np.random.default_rng(0)
    for thing, expected in (
        (Thing("cactus", "red"), {"green"}),
        (Thing("cat", "red", "striped"), {"orange", "grey"}),
        (Thing("house", "blue"), {"plaster"}),
        (Thing("mushroom", "blue", "dotted"), {"red"}),
    ):
        colors = Counter(recolor(Scene((thing,)), rng).things[0].color for _ in range(3000))
        share = sum(colors[color] for color in expected) / 3000
        # Half, a few by chance, and more where some of the other colours are held out.
        assert 0.42 < share < 0.72, (thing.name, colors)
        shown = {c for c in {*COLORS, *expected} if not Thing(thing.kind, c, thing.finish).held_out}
        assert set(colors) == shown, thing.name


# Exact targets


def alike(tokenizer: CLIPTokenizer, count: int, size: int = 16) -> Latents:
    """`count` pictures of one kind from one side, with random parts, and one from another side."""
    generator = torch.Generator().manual_seed(count)
    parts = torch.randn(count + 1, PARTS, size, 1, 1, generator=generator)
    parts[:, 3:12] = 0  # A plain thing, and no second.
    scene = Scene((Thing("mug", "red"),))
    return Latents(parts.half(), [scene] * (count + 1), ["front view"] * count + ["back view"], tokenizer)


def test_pictures_are_alike_that_differ_in_colours_alone(tokenizer: CLIPTokenizer) -> None:
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
    stored = Latents(torch.zeros(9, PARTS, 16, 1, 1), scenes, views, tokenizer)
    assert stored.has_others(torch.arange(9)).tolist() == [True, True, *[False] * 4, True, True, False]


def test_the_exact_target_is_the_mean_over_pictures_that_are_alike_in_the_samples_colours(tokenizer) -> None:
    stored = alike(tokenizer, 3)
    drawn = stored.batch(40, torch.Generator().manual_seed(0))
    t = torch.linspace(0.55, 0.95, 40)
    mix = t[:, None, None, None]
    x_t = (1 - mix) * drawn.x + mix * torch.randn(drawn.x.shape, generator=torch.Generator().manual_seed(1))
    rows = stored.has_others(drawn.pick).nonzero()[:, 0]
    assert 20 < len(rows) < 40 and (drawn.pick[rows] < 3).all()
    found = stored.exact_x0(drawn, rows, x_t[rows], t[rows], 8, torch.Generator().manual_seed(2))
    greys = torch.linspace(0, 1, 4001, dtype=torch.float64)
    for row, mean in zip(rows.tolist(), found, strict=True):
        weights = torch.cat([drawn.colors[row].flatten(), torch.ones(1)]).double()
        parts = stored.parts[:3].double().flatten(2)
        pictures = (
            torch.einsum("p,npd->nd", weights, parts[:, :-1])[:, None] + greys[:, None] * parts[:, None, -1]
        )
        misfit = (x_t[row].double().flatten() - (1 - t[row].double()) * pictures).square().sum(-1)
        likely = (-misfit / (2 * t[row].double() ** 2)).flatten().softmax(0).view_as(misfit)
        expected = torch.einsum("ng,ngd->d", likely, pictures)
        torch.testing.assert_close(mean.double().flatten(), expected, atol=2e-3, rtol=0)


def test_of_many_alike_some_others_are_asked_and_always_the_samples_own(tokenizer) -> None:
    stored = alike(tokenizer, 30)
    drawn = stored.batch(20, torch.Generator().manual_seed(0))
    rows = stored.has_others(drawn.pick).nonzero()[:, 0]
    # With next to no noise the answer is the picture itself: it can only be so if that was asked.
    t = torch.full((len(rows),), 1e-3)
    x = drawn.x[rows]
    for count in (2, 5):
        found = stored.exact_x0(drawn, rows, x * (1 - 1e-3), t, count, torch.Generator().manual_seed(count))
        torch.testing.assert_close(found, x, atol=2e-3, rtol=0)
    # In noise alone it is the mean of those asked, which others for other draws.
    t = torch.ones(len(rows))
    one, two = (stored.exact_x0(drawn, rows, x, t, 5, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert (one - two).abs().amax((1, 2, 3)).min() > 0.05


def test_one_picture_alone_leaves_its_grey_open_and_its_target_plain(tokenizer) -> None:
    stored = alike(tokenizer, 1, size=4096)
    drawn = stored.batch(6, torch.Generator().manual_seed(0))
    rows, t = torch.arange(6), torch.full((6,), 0.6)
    assert not stored.has_others(drawn.pick).any()
    x_t = 0.4 * drawn.x + 0.6 * torch.randn(drawn.x.shape, generator=torch.Generator().manual_seed(1))
    found = stored.exact_x0(drawn, rows, x_t, t, 8, torch.Generator())
    # A grey behind 4,096 numbers is seen to within 0.6 / (0.4 sqrt(4096)).
    off = ((found - drawn.x) * drawn.backdrops).flatten(1).sum(1) / drawn.backdrops.square().flatten(1).sum(1)
    assert off.abs().max() < 4 * 0.6 / 0.4 / 64
    torch.testing.assert_close(found, drawn.x + off[:, None, None, None] * drawn.backdrops, atol=1e-3, rtol=0)
    plain, exact = (flow_targets(stored, 32, torch.Generator().manual_seed(3), count) for count in (1, 8))
    for ours, theirs in zip(plain, exact, strict=True):
        assert torch.equal(ours, theirs)


def test_targets_are_exact_above_a_level_and_plain_below_it(tokenizer) -> None:
    stored = alike(tokenizer, 5)
    plain, exact = (flow_targets(stored, 200, torch.Generator().manual_seed(3), count) for count in (1, 8))
    for ours, theirs in zip(plain[:3], exact[:3], strict=True):
        assert torch.equal(ours, theirs)  # x_t, t and ids.
    x_t, t, _, target = plain
    changed = (exact[3] != target).flatten(1).any(1)
    assert not changed[t <= EXACT_ABOVE].any() and changed[t > EXACT_ABOVE].float().mean() > 0.7
    # A sample's own target is what the exact one is of on average, and scatters more about the picture's mean.
    high = changed & (t > 0.8)
    assert (exact[3] - target)[high].mean().abs() < 0.1
    assert exact[3][high].var() < target[high].var()


def test_what_is_stored_comes_with_its_scene_and_its_view(stored: Latents) -> None:
    assert set(stored.views) == set(VIEWS) and not any(scene.held_out for scene in stored.scenes)
    label = {"things": [["mug", "red", "plain", ""]], "relation": None, "ground": "sand"}
    assert scene_of(label) == Scene((Thing("mug", "red"),), ground="sand")
