"""A clock that counts its readings, since training follows the time and its tests must not; and pictures that are constant."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from rfgs.tinyworld.scenes import Scene, Thing
from training.draws import Draws
from training.latents import PARTS, Latents
from training.text import MAX_TOKENS


class Counted:
    """Stands for a tokenizer: the ids of a text are the number of its words, 0 for no text, throughout."""

    def __call__(self, texts: list[str], **options: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[[len(text.split())] * MAX_TOKENS for text in texts])

    def batch_decode(self, ids: torch.Tensor, **options: object) -> list[str]:
        return [" ".join(["word"] * count) for count in ids[:, 0].tolist()]


def _constant(count: int = 4, value: float = 0.5) -> Latents:
    """Pictures whose latents are `value` everywhere in any colors over any grey; their ids are numbers of words."""
    parts = torch.zeros(count, PARTS, 16, 16, 16).half()
    parts[:, -2] = value
    views = ["front view", "left side view"] * count
    return Latents(parts, Draws([Scene((Thing("cube", "red"),))] * count, views[:count], Counted()))


@pytest.fixture(scope="session")
def constant() -> Callable[..., Latents]:
    return _constant


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in the two trainings goes on by one second at each reading, and each step reads it once."""
    ticks = itertools.count()
    fake = SimpleNamespace(time=lambda: float(next(ticks)), process_time=lambda: float(next(ticks)))
    monkeypatch.setattr("training.vae.time", fake)
    monkeypatch.setattr("training.fitting.time", fake)
