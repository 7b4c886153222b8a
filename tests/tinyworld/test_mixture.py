"""The fast sums against the same written out in float64, latents in parts against the encoder, albums against the tracer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rfgs.tinyworld import album as albums
from rfgs.tinyworld.album import Grid, album, sample_album
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.mixture import Pictures, latent_parts, mixture_mean
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.posterior import posterior_mean
from rfgs.tinyworld.shapes import cameras_at, rows_at, shape_of, traced

SMALL = Grid(azimuths=4, elevations=(10, 70), fractions=(0.0, 1.0))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))


def some_pictures(count: int, looks: int, own: int, generator: torch.Generator) -> Pictures:
    parts = torch.randn(count, own + 2, 3, 2, 2, generator=generator)
    words = [("front view", "back view")[i % 2] for i in range(count)]
    chances = torch.rand(count, generator=generator)
    return Pictures(parts, torch.rand(1, looks, own, generator=generator), words, chances)


@pytest.mark.parametrize("sides", [{}, {"front view": 1.0}, {"front view": 0.7, "back view": 0.3}])
@pytest.mark.parametrize("t", [0.05, 0.3, 0.7, 0.98, 1.0])
def test_the_mean_is_that_of_every_picture_written_out(t: float, sides: dict[str, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = [some_pictures(6, 4, 3, generator), some_pictures(8, 2, 6, generator)]
    objects, backdrops, chances = [], [], []
    total = {word: sum(b.chances[b.rows(word)].sum() for b in blocks) for word in ("front view", "back view")}
    for block in blocks:
        parts = block.parts.double().unflatten(0, (-1, block.size))
        for k, word in enumerate(block.words):
            for colors in block.colors[0, :, :-1]:
                objects.append(colors @ parts[k, :-2] + parts[k, -2])
                backdrops.append(parts[k, -1])
                share = sides.get(word, 0.0) / total[word] if sides else 1.0
                chances.append(float(block.chances[k] * share))
    x = objects[5] + 0.4 * backdrops[5]
    noise = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    x_t, times = (1 - t) * x + t * noise, torch.full((2,), t, dtype=torch.float64)
    # posterior_mean takes all as equally likely: the grey's integral is summed here, in 4000 steps.
    grey = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    candidates = torch.stack(objects)[:, None] + grey[:, None] * torch.stack(backdrops)[:, None]
    expected = []
    for one in x_t:
        score = -(one - (1 - t) * candidates).square().sum(-1) / (2 * t**2)
        score = score + torch.tensor(chances, dtype=torch.float64).log()[:, None]
        weights = torch.softmax(score.flatten(), 0)
        expected.append(weights @ candidates.flatten(0, 1))
    found = mixture_mean(blocks, x_t.float(), times.float(), sides)
    torch.testing.assert_close(found.double(), torch.stack(expected), rtol=1e-3, atol=1e-3)
    if not sides:
        flat = [block.chances.fill_(1.0) for block in blocks]
        stacked = [torch.stack(v).expand(2, -1, -1) for v in (objects, backdrops)]
        same = posterior_mean(x_t, times, *stacked)
        torch.testing.assert_close(
            mixture_mean(blocks, x_t.float(), times.float(), {}).double(), same, rtol=1e-3, atol=1e-3
        )
        assert flat


def test_latents_in_parts_are_the_encoders() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel, bias = torch.randn(5, 3, 8, 8, generator=generator), torch.randn(5, generator=generator)
    scene = parse("a striped red mug on a wooden floor").looks()[0]
    shown = album(shape_of(scene), SMALL)
    parts, own = latent_parts(shown, kernel, bias)
    colors = thing_colors(scene)
    weights = torch.tensor([*colors.flatten()[own], 1.0, 0.3])
    layers = shown.pictures(np.array([3, 9])) / 255.0
    rgb = layers[..., :4] @ colors + layers[..., 4:7] + 0.3 * (1 - layers[..., 7:])
    images = torch.from_numpy(rgb).float().permute(0, 3, 1, 2)
    expected = F.conv2d(images, kernel, bias, stride=8)
    found = torch.einsum("kpchw,p->kchw", parts[[3, 9]], weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_an_album_holds_what_the_tracer_draws_and_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = shape_of(parse("a mug next to a car").looks()[0])
    shown = album(scene, SMALL)
    view = SMALL.views()[5]
    layers = traced(rows_at(scene, 1.0), cameras_at([view], 128), 1)
    assert (shown.pictures(np.array([8 + 5]))[0] == (layers[0] * 255 + 0.5).astype(np.uint8)).all()
    assert len(shown.words) == 16 and shown.words[5] == "overhead view" and shown.chances.sum() == 1
    monkeypatch.setattr(albums, "traced", None)
    again = album(scene, SMALL)
    assert (again.patches == shown.patches).all() and (again.where == shown.where).all()
    with pytest.raises(TypeError):
        album(shape_of(parse("a car").looks()[0]), SMALL)


def test_no_picture_lies_on_the_border_of_two_sides() -> None:
    for count in (4, 12, 24, 36):
        words = albums.view_words(*zip(*Grid(azimuths=count, elevations=(0,)).views(), strict=True))
        assert {words.count(word) for word in set(words)} == {count // 4}


def test_a_sample_of_the_world_is_always_the_same() -> None:
    (single, colors), (pairs, _) = sample_album(10, 3, 1)
    assert len(single.words) == 6 and len(pairs.words) == 4 and colors.shape == (6, 3, 4, 3)
    assert single.chances.sum() == pytest.approx(0.6)
    assert (sample_album(10, 3, 1)[0][1] == colors).all()
