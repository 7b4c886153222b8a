"""Sizes of known files, and times of a prior that waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rfgs.priors.base import Condition
from training.prior_cost import evaluation_seconds, megabytes


def test_megabytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"0" * 250_000)
    (tmp_path / "c").write_bytes(b"0" * 500_000)
    assert megabytes(tmp_path) == 0.75


class Sleeper:
    """A flow whose network takes a hundredth of a second, and counts what it is asked."""

    kind, image_size = "flow", 16

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, prompts: Sequence[str]) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        return images[..., ::8, ::8]

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.asked.append(len(x_t))
        time.sleep(0.01)
        return x_t


def test_one_evaluation_is_of_four_views_with_guidance() -> None:
    sleeper = Sleeper()
    found = evaluation_seconds(sleeper, repeats=3)
    assert sleeper.asked == [8] * 5
    assert 0.01 <= found["best"] <= found["median"]
