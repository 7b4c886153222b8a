"""The programs in examples/: each does what it says, here with a few steps, and is short enough to be read at once."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rfgs.export import read_ply
from rfgs.guidance import GUIDES
from rfgs.priors import Condition
from rfgs.tinyworld import truth

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def example(number: int) -> dict[str, Any]:
    """What the program with a number defines."""
    (path,) = [path for path in EXAMPLES if path.name.startswith(f"{number}_")]
    return runpy.run_path(str(path))


def test_there_are_five_and_each_is_short() -> None:
    assert [path.name[0] for path in EXAMPLES] == list("12345")
    for path in EXAMPLES:
        text = path.read_text()
        assert len(text.splitlines()) < 50, path.name
        assert f"python examples/{path.name}" in text


def test_a_prompt_becomes_splats_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example(1)["main"](steps=20, output=tmp_path)
    assert len(read_ply(tmp_path / "object.ply")) > 1000
    with Image.open(tmp_path / "object.png") as picture:
        assert picture.width > 4 * picture.height
    assert "step 20 of 20" in capsys.readouterr().out


def test_a_guidance_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GUIDES, "mirrored", None)  # So that it is taken out again.
    found = example(2)
    calls = []
    judge = found["Mirrored"].__call__
    found["Mirrored"].__call__ = lambda *views: calls.append(judge(*views)) or calls[-1]
    found["main"](steps=2, output=tmp_path)
    assert len(calls) == 2 and all(estimate.loss > 0 for estimate in calls)
    assert len(read_ply(tmp_path / "mirrored.ply")) == 2000


def test_a_prior_of_ones_own(tmp_path: Path) -> None:
    found = example(3)
    heard: list[str] = []

    class Inner:
        name = "inner"

        def embed(self, prompts: list[str]) -> Condition:
            heard.extend(prompts)
            return Condition(torch.zeros(len(prompts), 1, 1))

    prior = found["German"](Inner())
    prior.embed(["eine blaue Kugel, front view", ""])
    assert heard == ["a blue ball, front view", ""] and prior.name == "inner"
    found["main"](steps=2, output=tmp_path)
    assert len(read_ply(tmp_path / "wuerfel.ply")) == 2000


def test_a_picture_is_inverted_and_edited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example(4)["main"](steps=8, output=tmp_path)
    with Image.open(tmp_path / "edit.png") as picture:
        assert picture.size == (3 * 128 + 2 * 4, 128)
    decibels = float(capsys.readouterr().out.split("noise: ")[1].split(" dB")[0])
    assert decibels > 15
    with Image.open(tmp_path / "edit.png") as picture:
        picture.crop((0, 0, 128, 128)).save(tmp_path / "photo.png")
    example(4)["main"](steps=2, photo=tmp_path / "photo.png", output=tmp_path)


def test_two_methods_are_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two views of one size, and none kept for other tests.
    monkeypatch.setattr(truth, "VIEWS", truth.VIEWS[:2])
    monkeypatch.setattr(truth, "FRACTIONS", truth.FRACTIONS[:1])
    monkeypatch.setattr(truth, "true_views", truth.true_views.__wrapped__)
    example(5)["main"](steps=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["method", "rfds", "rfds-rev"]
    for line in lines[1:]:
        iou, psnr = float(line.split()[2]), float(line.split()[3])
        assert 0 < iou < 1 and 5 < psnr < 40
