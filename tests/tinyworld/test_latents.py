"""Batches of latents: what belongs together stays together, over every grey."""

from __future__ import annotations

import pytest
import torch

from rfgs.tinyworld import latents
from rfgs.tinyworld.latents import Latents
from rfgs.tinyworld.text import MAX_TOKENS

SHAPE = (16, 16, 16)


def numbered(count: int) -> Latents:
    """Samples that carry their number in the latents, in the ids, and (plus 1000) in the ids without view words.

    What shows behind them is half of the grey.
    """
    number = torch.arange(count)
    objects = number.half()[:, None, None, None].expand(count, *SHAPE)
    ids = number[:, None].expand(count, MAX_TOKENS)
    backdrops = torch.full_like(objects, 0.5)
    return Latents(objects, backdrops, ids, ids + 1000, torch.full((MAX_TOKENS,), 5000))


def test_a_batch_keeps_pictures_with_their_captions_and_drops_a_tenth_of_either_kind() -> None:
    x, ids = numbered(300).batch(8000, torch.Generator().manual_seed(0))
    assert x.shape == (8000, *SHAPE) and x.dtype == torch.float32 and ids.shape == (8000, MAX_TOKENS)
    assert (ids == ids[:, :1]).all()
    number, told = x[:, 0, 0, 0].floor().long(), ids[:, 0]
    whole, no_view, empty = told < 1000, (told >= 1000) & (told < 5000), told == 5000
    assert torch.equal(told[whole], number[whole])
    assert torch.equal(told[no_view], number[no_view] + 1000)
    for share, target in ((whole, 0.8), (no_view, 0.1), (empty, 0.1)):
        assert share.float().mean().item() == pytest.approx(target, abs=0.015)
    assert len(number.unique()) == 300


def test_a_batch_is_over_every_grey_and_over_one_grey_each() -> None:
    data = numbered(300)
    x, _ = data.batch(2000, torch.Generator().manual_seed(0))
    grey = 2 * (x[:, 0, 0, 0] % 1)
    torch.testing.assert_close(x, x[:, :1, :1, :1].expand_as(x))
    assert torch.histc(grey, 10, 0, 1).min() > 150
    x = data.over_grey(torch.tensor([7, 8]), torch.tensor([0.0, 0.5]))
    assert x.dtype == torch.float32 and x[:, 0, 0, 0].tolist() == [7, 8.25] and len(data) == 300


def test_batches_repeat_with_the_generator() -> None:
    one, again, other = (numbered(50).batch(20, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[1], other[1])


def test_the_last_samples_are_kept_for_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "_CHECK", 3)
    numbers = torch.arange(10)
    whole = Latents(numbers, 30 + numbers, 10 + numbers, 20 + numbers, torch.tensor([99]))
    kept, measured = latents.split(whole)
    assert kept.objects.tolist() == list(range(7)) and measured.objects.tolist() == [7, 8, 9]
    assert measured.backdrops.tolist() == [37, 38, 39] and len(kept) == 7
    assert measured.ids.tolist() == [17, 18, 19] and measured.ids_without_view.tolist() == [27, 28, 29]
    assert kept.empty is measured.empty is whole.empty
