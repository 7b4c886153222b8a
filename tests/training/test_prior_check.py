"""Straightness against closed forms, shares against verdicts known beforehand, and a measurement that is resumed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rfgs.priors.base import Condition
from rfgs.priors.flow import Flow
from rfgs.render.cameras import view_words
from rfgs.tinyworld.scenes import Scene, Thing
from rfgs.tinyworld.scorer_labels import LABELS, class_numbers
from training import prior_check, sample_figures
from training.prior_check import ASKED, best_scale, check, set_prompts
from training.sample_figures import VIEWS, figures
from training.straightness import straightness

S = 0.5


class OneGaussian(Flow):
    """Data N(mu, S^2), mu = 2: `curved` is its rectified flow, the other goes straight to the same data."""

    def __init__(self, curved: bool) -> None:
        self.curved = curved

    def embed(self, prompts: Sequence[str]) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        t = t.view(-1, 1, 1, 1)
        e = x_t - (1 - t) * 2
        if self.curved:
            return -2 + (t - (1 - t) * S**2) / ((1 - t) ** 2 * S**2 + t**2) * e
        return -2 + (1 - S) * e / (S + t * (1 - S))


def test_straight_paths_have_straightness_0() -> None:
    noise = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = straightness(OneGaussian(curved=False), ["a"] * 3, noise, 5)  # type: ignore[arg-type]
    assert abs(found["S"]) < 1e-20 and abs(found["relative"]) < 1e-20


def test_straightness_of_a_gaussian_is_the_integral() -> None:
    """x_t = (1 - t) mu + r(t) e with r^2 = (1 - t)^2 s^2 + t^2, so S = int (r' - (1 - s))^2 dt |e|^2 = s (2 - pi / 2) |e|^2."""
    noise = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = straightness(OneGaussian(curved=True), ["a"] * 3, noise, 200)  # type: ignore[arg-type]
    expected = S * (2 - math.pi / 2) * noise.square().sum().item() / 3
    assert found["S"] == pytest.approx(expected, rel=1e-3)
    assert found["per_value"] == pytest.approx(expected / 32, rel=1e-3)
    length = ((1 - S) * noise - 2).square().sum().item() / 3
    assert found["relative"] == pytest.approx(expected / length, rel=1e-3)


class Oracle:
    """A scorer that reads its verdicts from the pictures: pixel k of the first row is the class of the k-th of LABELS."""

    labels = LABELS
    strange: tuple[str, ...] = ()

    def known(self, prompts: Sequence[str]) -> list[str]:
        return [prompt for prompt in prompts if prompt not in self.strange]

    def classify(self, images: Tensor) -> dict[str, Tensor]:
        return {
            name: torch.nn.functional.one_hot(images[:, 0, 0, k].round().long(), len(LABELS[name])).float()
            for k, name in enumerate(LABELS)
        }

    def similarity(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Prompt number `pixel 0 of the second row` fits best."""
        return torch.nn.functional.one_hot(images[:, 0, 1, 0].round().long(), len(prompts)).float()


DIRECTIONS: dict[str, tuple[float, float]] = {
    "front view": (0, 10),
    "back view": (180, 10),
    "left side view": (90, 10),
    "right side view": (-90, 10),
    "overhead view": (0, 75),
}


def verdicts(scene: Scene, number: int, **wrong: str) -> Tensor:
    """Pictures [5, 3, 2, 10] that the oracle takes for the scene with each of VIEWS, or for something else in `wrong`."""
    pictures = torch.zeros(5, 3, 2, len(LABELS))
    for picture, view in zip(pictures, VIEWS, strict=True):
        right = dict(zip(LABELS, class_numbers(scene, view, DIRECTIONS[view]), strict=True))
        right |= {name: LABELS[name].index(value) for name, value in wrong.items()}
        picture[0, 0] = torch.tensor([max(right[name], 0) for name in LABELS])
        picture[0, 1, 0] = number
    return pictures


def test_shares_of_known_verdicts() -> None:
    mug, car = Scene((Thing("mug", "red", "striped"),)), Scene((Thing("car", "blue"),))
    images = [
        verdicts(mug, 0),
        verdicts(car, 2, color="red"),
        verdicts(car, 1, finish="dotted", view="front view", azimuth="52.5"),
    ]
    found = figures(Oracle(), images, [mug, car, car], ["m", "c", "d"], ASKED["single"])  # type: ignore[arg-type]
    assert found["kind"] == 100 and found["color"] == found["finish"] == pytest.approx(66.67)
    assert found["view"] == pytest.approx(100 * 11 / 15, abs=0.01)  # In the last, one of five is right.
    # The last mug is seen from front and left at once, and from above, whatever the azimuth.
    assert found["side"] == pytest.approx(100 * 13 / 15, abs=0.01)
    assert found["mean"] == pytest.approx(100 * (15 + 10 + 10 + 11) / 60, abs=0.01)
    assert found["all"] == found["top1"] == pytest.approx(33.33)


def test_pairs_the_other_way_round_are_found() -> None:
    pair = Scene((Thing("mug", "red"), Thing("car", "blue")), "next to")
    turned = verdicts(pair, 0, kind="car", second_kind="mug")
    found = figures(Oracle(), [turned], [pair], ["p", "q"], ASKED["multiple"])  # type: ignore[arg-type]
    assert found["kind"] == found["second_kind"] == 0 and found["kinds"] == 100
    assert found["color"] == found["colors"] == found["relation"] == 100 and found["all"] == 0


def test_world_pictures_are_of_the_views_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def orbit(azimuth: float, elevation: float, *rest: Any) -> Any:
        seen.append(view_words(azimuth, elevation)[0])
        return SimpleNamespace(viewmats=torch.zeros(1), Ks=torch.zeros(1))

    monkeypatch.setattr(sample_figures, "orbit", orbit)
    monkeypatch.setattr(sample_figures, "render_scene", lambda *args: np.zeros((1, 8, 8, 4), np.float32))
    pictures = sample_figures.world_pictures(Scene((Thing("mug", "red"),)), 8, np.random.default_rng(0))
    assert seen == list(VIEWS) and pictures.shape == (5, 3, 8, 8) and (pictures == 0.5).all()


class Painter:
    """A prior whose pictures tell the truth, in many steps and at scale 4; else every color is wrong."""

    name, kind, image_size = "painter", "flow", 128

    def __init__(self) -> None:
        self.calls = 0
        self.scenes = {k: v for name in prior_check.SETS for k, v in prior_check.set_prompts(name).items()}
        self.prompts: list[str] = []

    def embed(self, prompts: Sequence[str]) -> Condition:
        self.prompts = list(prompts) if prompts[0] else self.prompts
        return Condition(torch.zeros(len(prompts), 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        return images

    decode = encode

    def sample(self, condition: Condition, negative: Condition, **settings: Any) -> Tensor:
        self.calls += 1
        assert [text.rsplit(", ", 1)[1] for text in self.prompts] == list(VIEWS)
        scene = self.scenes[self.prompts[0].rsplit(", ", 1)[0]]
        if settings["guidance_scale"] == 4 and settings["steps"] > 1:
            return verdicts(scene, 0)
        return verdicts(scene, 0, color="red" if scene.things[0].color != "red" else "blue")


class Measured:
    """In the place of the truth: better for verdicts with the color that the prompt's first look has."""

    def __init__(self, picture: Tensor, prompt: str) -> None:
        color = list(LABELS["color"])[int(picture[0, 0, list(LABELS).index("color")])]
        expected = prior_check.parse(prompt).looks()[0].things[0].color
        self.good, self.open = color == expected, expected not in prompt

    def figures(self) -> dict[str, float]:
        return {"iou": 0.9 if self.good else 0.5, "psnr": 20.0} | (
            {"decisiveness": 0.75} if self.open else {}
        )


def test_a_scorer_is_asked_only_for_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_check, "world_pictures", lambda scene, *rest: verdicts(scene, 0))
    monkeypatch.setattr(sample_figures, "measure_picture", Measured)
    asked = []
    scorer = Oracle()
    scorer.strange = tuple(set_prompts("single"))[:2] + tuple(set_prompts("multiple"))[:1]
    monkeypatch.setattr(prior_check, "figures", lambda *arguments: asked.append(arguments[3]) or {})
    results: dict[str, Any] = {"settings": {"steps": 3, "prompts": 2, "per_prompt": 1, "seed": 0}}
    check(Painter(), scorer, results, lambda: None, scales=[], say=print)  # type: ignore[arg-type]
    surroundings, multiple = list(set_prompts("surroundings")), list(set_prompts("multiple"))
    # The world's own pictures, and those encoded and decoded.
    assert asked == 2 * [surroundings, [multiple[1], *multiple[2:]]]
    assert results["world"]["single"] == {"iou": 90, "psnr": 20}


def test_a_check_finds_the_best_scale_and_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_check, "world_pictures", lambda scene, *rest: verdicts(scene, 0))
    monkeypatch.setattr(sample_figures, "measure_picture", Measured)
    settings = {"steps": 3, "prompts": 2, "per_prompt": 1, "seed": 0}
    results: dict[str, Any] = {"settings": settings}
    painter, saved, lines = Painter(), [], []

    def again(scales: Sequence[float]) -> None:
        check(painter, Oracle(), results, lambda: saved.append(1), scales=scales, say=lines.append)  # type: ignore[arg-type]

    again([1, 4])
    assert painter.calls == 2 * 2 * 4 * 2  # Steps or one step, scales, sets, prompts.
    assert len(saved) == len(lines) == 2 * 4 + 2 * 2 * 4
    for name in ASKED:
        assert results["samples"]["4"][name]["color"] == results["world"][name]["all"] == 100
        assert results["samples"]["1"][name]["color"] == results["one_step"]["4"][name]["color"] == 0
        assert results["samples"]["4"][name]["iou"] == 90 and results["samples"]["1"][name]["iou"] == 50
        assert next(iter(results["samples"]["4"][name])) == "iou"
    assert results["samples"]["4"]["open"] == {"iou": 90, "psnr": 20, "decisiveness": 75}
    assert best_scale(results["samples"], [1, 4]) == 4
    assert best_scale({"1": {"a": {"iou": 5.0}}, "2": {"a": {"iou": 5.0}}}, [2, 1]) == 1
    again([1, 4])
    assert painter.calls == 32
    again([2])
    assert painter.calls == 32 + 2 * 4 * 2 and results["samples"]["2"]["single"]["color"] == 0
    assert len(prior_check.table(results).splitlines()) == 2 + 2 * 4 + 2 * 3 * 4
    rows = prior_check.sheet_rows(painter, settings, 4)
    assert len(rows) == 8 and all(len(pictures) == 10 for _, pictures in rows)
