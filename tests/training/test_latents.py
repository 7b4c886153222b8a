"""Latents of pictures in any colors against pictures that were rendered so, and exact targets against quadrature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from rfgs.render.cameras import orbit
from rfgs.tinyworld.language import VIEWS, vocabulary
from rfgs.tinyworld.pictures import recolor, thing_colors
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import Scene, Thing, draw_scene
from rfgs.tinyworld.tracer import render_layers, render_scene
from training import data, latents
from training.data import scene_of
from training.draws import EXACT_ABOVE, Draw, Draws
from training.latents import PARTS, Latents, encode_layers
from training.prior import flow_targets
from training.text import write_tokenizer

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


def test_a_picture_in_other_colors_is_what_is_rendered_in_them(encoder, tokenizer) -> None:
    """Over any grey too: rendering, coloring and encoding commute, to the rounding of half precision."""
    rng = np.random.default_rng(0)
    camera = orbit(30, 20, 3.2, 40, PIXELS, PIXELS)
    view = camera.viewmats.numpy(), camera.Ks.numpy(), PIXELS, PIXELS
    scenes = [draw_scene(rng, name) for name in SETS for _ in range(8)]
    layers = [
        render_layers(build(scene, np.random.default_rng(i)), *view)[0] for i, scene in enumerate(scenes)
    ]
    parts = encode_layers(torch.from_numpy(np.stack(layers)), *encoder).half()
    assert parts.shape == (24, PARTS, 16, PIXELS // 8, PIXELS // 8)
    data_ = Latents(parts, Draws(scenes, ["front view"] * 24, tokenizer))
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
    """All parts are summed here: second colors of plain things and the colors of a second thing that is not there too."""
    colors = torch.rand(len(stored), 4, 3, generator=torch.Generator().manual_seed(0))
    objects, backdrops = stored.shown(torch.arange(len(stored)), colors)
    weights = F.pad(colors.flatten(1), (0, 1), value=1.0)
    everything = torch.einsum("np,npchw->nchw", weights, stored.parts[:, :-1].float())
    torch.testing.assert_close(objects, everything, atol=1e-5, rtol=1e-5)
    assert torch.equal(backdrops, stored.parts[:, -1].float())
    # In any order, and several times.
    pick = torch.tensor([7, 3, 7])
    torch.testing.assert_close(stored.shown(pick, colors[pick])[0], objects[pick])


def test_a_batch_is_what_was_drawn_over_its_grey(stored: Latents) -> None:
    drawn = stored.draws.draw(200, 8, torch.Generator().manual_seed(0))
    batch = stored.batch(drawn)
    objects, backdrops = stored.shown(drawn.pick, drawn.colors)
    assert torch.equal(objects, batch.objects) and torch.equal(backdrops, batch.backdrops)
    expected = objects + drawn.grey[:, None, None, None] * backdrops
    torch.testing.assert_close(batch.x, expected, atol=1e-4, rtol=0)


def test_the_first_samples_are_kept_for_measuring(stored: Latents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "_CHECK", 30)
    kept, measured = latents.split(stored)
    assert (len(kept), len(measured)) == (90, 30)
    assert (
        measured.draws.scenes == stored.draws.scenes[:30] and measured.draws.views == stored.draws.views[:30]
    )
    assert torch.equal(measured.parts, stored.parts[:30]) and torch.equal(kept.parts, stored.parts[30:])
    # Pictures of the other half are nobody's others.
    assert int(kept.draws.draw(200, 8, torch.Generator().manual_seed(0)).others.max()) < 90


def test_shards_that_were_rendered_since_are_taken_up_without_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer, encoder
) -> None:
    monkeypatch.setattr(data, "SHARD", 4)
    monkeypatch.setattr(data, "IMAGE_SIZE", PIXELS)
    monkeypatch.setattr(latents, "_CHECK", 2)
    (tmp_path / "data").mkdir()
    for index in (0, 1):
        data.render_shard(tmp_path / "data", index, 5)
    latents.encode_dataset(tmp_path, 0, encoder)
    kept, _ = latents.split(latents.load_latents(tmp_path, tokenizer))
    assert len(kept) == 6 and not latents.take_new_pictures(kept, tmp_path)
    data.render_shard(tmp_path / "data", 3, 5)
    assert not latents.take_new_pictures(kept, tmp_path)
    data.render_shard(tmp_path / "data", 2, 5)
    assert latents.take_new_pictures(kept, tmp_path) and len(kept) == len(kept.draws.scenes) == 14
    latents.encode_dataset(tmp_path, 0, encoder)
    whole = latents.load_latents(tmp_path, tokenizer)
    assert torch.equal(kept.parts, whole.parts[2:]) and kept.draws.scenes == whole.draws.scenes[2:]
    assert not latents.take_new_pictures(kept, tmp_path)


# Exact targets


def alike(tokenizer: CLIPTokenizer, count: int, size: int = 16) -> Latents:
    """`count` pictures of one kind from one side, with random parts, and one from another side."""
    generator = torch.Generator().manual_seed(count)
    parts = torch.randn(count + 1, PARTS, size, 1, 1, generator=generator)
    parts[:, 3:12] = 0  # A plain thing, and no second.
    scene = Scene((Thing("mug", "red"),))
    draws = Draws([scene] * (count + 1), ["front view"] * count + ["back view"], tokenizer)
    return Latents(parts.half(), draws)


def ask(drawn: Draw, stored: Latents, count: int, rows: Tensor | None = None) -> Draw:
    """The same draw with up to `count` - 1 others for each of `rows`, whatever its t; None takes all that have any."""
    if rows is None:
        rows = (drawn.pick < len(stored) - 1).nonzero()[:, 0]
    others = torch.full((len(rows), count - 1), -1)
    for row, own in zip(others, drawn.pick[rows].tolist(), strict=True):
        found = [i for i in range(len(stored) - 1) if i != own and own != len(stored) - 1][: count - 1]
        row[: len(found)] = torch.tensor(found, dtype=torch.long)
    return Draw(drawn.pick, drawn.colors, drawn.grey, drawn.ids, drawn.t, rows, others)


def test_the_exact_target_is_the_mean_over_pictures_that_are_alike_in_the_samples_colors(tokenizer) -> None:
    stored = alike(tokenizer, 3)
    drawn = ask(stored.draws.draw(40, 8, torch.Generator().manual_seed(0)), stored, 8)
    batch, t = stored.batch(drawn), torch.linspace(0.55, 0.95, 40)
    mix = t[:, None, None, None]
    x_t = (1 - mix) * batch.x + mix * torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(1))
    rows = drawn.rows
    assert 20 < len(rows) < 40 and (drawn.pick[rows] < 3).all()
    found = stored.exact_x0(drawn, batch, x_t[rows], t[rows])
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
    plain = stored.draws.draw(20, 8, torch.Generator().manual_seed(0))
    for count in (2, 5):
        drawn = ask(plain, stored, count)
        batch = stored.batch(drawn)
        x = batch.x[drawn.rows]
        # With next to no noise the answer is the picture itself: it can only be so if that was asked.
        t = torch.full((len(x),), 1e-3)
        found = stored.exact_x0(drawn, batch, x * (1 - 1e-3), t)
        torch.testing.assert_close(found, x, atol=2e-3, rtol=0)
        # In noise alone it is the mean of those asked, over a grey of a half.
        found = stored.exact_x0(drawn, batch, x, torch.ones(len(x)))
        for row, others, mean in zip(drawn.rows, drawn.others, found, strict=True):
            asked = torch.cat([drawn.pick[row : row + 1], others])
            objects, backdrops = stored.shown(asked, drawn.colors[row].expand(count, 4, 3))
            torch.testing.assert_close(mean, (objects + 0.5 * backdrops).mean(0), atol=1e-3, rtol=0)


def test_one_picture_alone_leaves_its_grey_open_and_its_target_plain(tokenizer) -> None:
    stored = alike(tokenizer, 1, size=4096)
    drawn = stored.draws.draw(6, 8, torch.Generator().manual_seed(0))
    assert len(drawn.rows) == 0
    drawn = ask(drawn, stored, 8, torch.arange(6))
    batch, t = stored.batch(drawn), torch.full((6,), 0.6)
    x_t = 0.4 * batch.x + 0.6 * torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(1))
    found = stored.exact_x0(drawn, batch, x_t, t)
    # A grey behind 4,096 numbers is seen to within 0.6 / (0.4 sqrt(4096)).
    off = ((found - batch.x) * batch.backdrops).flatten(1).sum(1) / batch.backdrops.square().flatten(1).sum(1)
    assert off.abs().max() < 4 * 0.6 / 0.4 / 64
    torch.testing.assert_close(found, batch.x + off[:, None, None, None] * batch.backdrops, atol=1e-3, rtol=0)


def test_targets_are_exact_above_a_level_and_plain_below_it(tokenizer) -> None:
    stored = alike(tokenizer, 5)
    exact = stored.draws.draw(200, 8, torch.Generator().manual_seed(3))
    plain = ask(exact, stored, 8, torch.zeros(0, dtype=torch.long))
    (x_t, target), (same, better) = (
        flow_targets(stored, drawn, torch.Generator().manual_seed(4)) for drawn in (plain, exact)
    )
    assert torch.equal(x_t, same)
    t, changed = exact.t, (better != target).flatten(1).any(1)
    assert not changed[t <= EXACT_ABOVE].any() and changed[t > EXACT_ABOVE].float().mean() > 0.7
    # Below, and for the one that is alone, the target is the noise less the picture.
    mix = t[:, None, None, None]
    torch.testing.assert_close(x_t - mix * target, stored.batch(plain).x, atol=1e-5, rtol=0)
    # A sample's own target is what the exact one is of on average, and scatters more about the picture's mean.
    high = changed & (t > 0.8)
    assert (better - target)[high].mean().abs() < 0.1
    assert better[high].var() < target[high].var()


def test_what_is_stored_comes_with_its_scene_and_its_view(stored: Latents) -> None:
    assert set(stored.draws.views) == set(VIEWS) and not any(scene.held_out for scene in stored.draws.scenes)
    label = {"things": [["mug", "red", "plain", ""]], "relation": None, "ground": "sand"}
    assert scene_of(label) == Scene((Thing("mug", "red"),), ground="sand")
