"""Runs for images from a photograph to their files, under a prior known in closed form."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rfgs.errors import Unwritten, UserError
from rfgs.flat.images import read_image, save_image
from rfgs.flat.jobs import EditJob, ImageJob, InvertJob
from rfgs.flat.runs import edit_photo, invert_photo, make_image
from rfgs.priors.base import Condition
from tests.flat.flat_prior import FlatPrior, S


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Blocks of greys around "dark"; the models are the analytic one."""
    monkeypatch.setattr("rfgs.flat.runs.load_prior", lambda name, kind="flow", **options: FlatPrior())
    blocks = -0.5 + S * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    save_image(FlatPrior().decode(blocks), tmp_path / "photo.png")
    return tmp_path / "photo.png"


def written(folder: Path) -> dict:
    record = json.loads((folder / "run.json").read_text())
    for name in ("image.png", "strip.png", "curve.png"):
        Image.open(folder / name).load()
    assert set(record["seconds"]) >= {"startup", "files"} and record["job"]["seed"] == 0
    return record


def test_an_image(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    seen: list[tuple[int, int, str]] = []
    job = ImageJob("light", settings={"steps": 100, "particles": 3, "guidance_scale": 1.0})
    result = make_image(job, tmp_path / "run", report=lambda *step: seen.append(step))
    record = written(tmp_path / "run")
    assert seen == [(index, 100, "image") for index in range(1, 101)]
    assert record["command"] == "image" and record["settings"]["particles"] == 3
    assert len(record["curve"]["values"]) == 100 and record["metrics"]["steps_done"] == 100
    image, strip = (Image.open(tmp_path / "run" / name) for name in ("image.png", "strip.png"))
    assert image.size == (3 * 32 + 2 * 4, 32) and strip.size == (6 * 32 + 5 * 4, 32)
    assert result.image.mean().item() == pytest.approx(0.75, abs=0.1)


def test_a_full_disk_loses_no_image(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, said = tmp_path / "run", list[str]()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    replace = os.replace

    def replacing(source: Path, target: Path) -> None:
        if Path(target).parent == folder:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replacing)
    job = InvertJob(str(photo), "dark", method="ode", steps=2)
    result = invert_photo(job, folder, say=said.append)
    assert list(folder.iterdir()) == [] and len(said) == 1
    (other,) = {path.parent for path in result.paths}
    names = "image.png, strip.png, curve.png, noise.pt and run.json"
    assert said[0] == f"{folder} takes no more (no space left on device): {names} are in {other}"
    written(other)
    assert torch.load(other / "noise.pt", weights_only=True).shape[0] == 1

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(Unwritten, match="image.png: cannot be written .no space left on device"):
        invert_photo(job, folder, say=said.append)


def test_an_early_end_keeps_what_there_is(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    seen: list[int] = []
    make_image(
        ImageJob("light", settings={"steps": 60, "particles": 1}),
        tmp_path / "run",
        report=lambda done, *_: seen.append(done),
        stop=lambda: seen[-1] == 25,
    )
    assert written(tmp_path / "run")["metrics"]["steps_done"] == 25


@pytest.mark.parametrize(("method", "least"), [("ode", 25), ("irfds", 15)])
def test_an_inversion_comes_back_to_the_photo(photo: Path, tmp_path: Path, method: str, least: float) -> None:
    (tmp_path / "run").mkdir()
    result = invert_photo(InvertJob(str(photo), "dark", method=method), tmp_path / "run")
    metrics = written(tmp_path / "run")["metrics"]
    assert metrics["autoencoder_psnr"] > 50  # The photograph is made of the autoencoder's blocks.
    assert metrics["reconstruction_psnr"] > least and metrics["reconstruction_ssim"] > 0.5
    noise = torch.load(tmp_path / "run" / "noise.pt", weights_only=True)
    exact = (FlatPrior().encode(read_image(photo)) + 0.5) / S
    assert torch.corrcoef(torch.stack([noise.flatten(), exact.flatten()]))[0, 1] > 0.9
    assert metrics["noise_mean"] == pytest.approx(noise.mean().item(), abs=1e-5)
    assert metrics["noise_variance"] == pytest.approx(1, abs=0.4)
    assert "noise.pt" in [path.name for path in result.paths]
    assert all(path.is_file() for path in result.paths)


@pytest.mark.parametrize("method", ["ode", "flowedit"])
def test_an_edit_moves_the_mean_and_keeps_the_rest(photo: Path, tmp_path: Path, method: str) -> None:
    (tmp_path / "run").mkdir()
    strength = 1.0 if method == "flowedit" else None
    job = EditJob(str(photo), "dark", "light", method=method, guidance_scale=1.0, strength=strength)
    edited = edit_photo(job, tmp_path / "run").image
    # Both closed forms: the source, lighter by the difference of the means.
    expected = (read_image(photo) + 0.5).clamp(0, 1)
    assert (edited - expected).abs().mean().item() < (0.01 if method == "flowedit" else 0.04)
    assert written(tmp_path / "run")["metrics"]["edit_to_source_psnr"] == pytest.approx(6, abs=1)


@pytest.mark.parametrize(("method", "usual"), [("flowedit", 7.0), ("ode", 2.0), ("irfds", 2.0)])
def test_an_edit_is_as_strong_as_was_measured_unless_told_otherwise(
    photo: Path, tmp_path: Path, method: str, usual: float
) -> None:
    """FlowEdit's numbers are those that won in docs/editing.md: strength 0.66, source scale 1, target scale 7."""
    edits = []
    for scale in (None, usual, usual + 1):
        (folder := tmp_path / f"run {scale}").mkdir()
        job = EditJob(str(photo), "dark", "light", method=method, steps=10, guidance_scale=scale)
        edits.append(edit_photo(job, folder))
    without, told, stronger = (edit.record["curve"]["values"] for edit in edits)
    assert without == told != stronger and torch.equal(edits[0].image, edits[1].image)
    if method == "flowedit":
        settings = edits[0].record["settings"]
        assert (settings["strength"], settings["source_scale"], settings["target_scale"]) == (0.66, 1, 7)
    else:
        assert edits[0].record["settings"]["sampling"]["guidance_scale"] == usual


def test_a_photo_that_is_not_square_and_one_that_is_too_large(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    Image.new("L", (90, 50), 60).save(photo)
    job = InvertJob(str(photo), "dark", method="ode", steps=2, resolution=64)
    assert invert_photo(job, tmp_path / "run").image.shape == (1, 3, 32, 64)
    job = InvertJob(str(photo), "dark", method="ode", resolution=256)
    with pytest.raises(
        UserError, match="images of 256x128 pixels are more than flat takes; try --resolution 32"
    ):
        invert_photo(job, tmp_path / "run")


BAD = 2
"""Evaluations that overflow in one latent."""


@pytest.mark.parametrize("what", ["image", "irfds", "ode", "flowedit"])
def test_a_velocity_that_overflows_spoils_nothing_and_is_counted(
    what: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflowing(FlatPrior):
        asked = 0

        def predict(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
            v = super().predict(x_t, t, condition)
            self.asked += 1
            if 3 <= self.asked < 3 + BAD:
                v[0, 1, 2, 3] = (torch.inf, torch.nan)[self.asked % 2]
            return v

    monkeypatch.setattr("rfgs.flat.runs.load_prior", lambda name, kind="flow", **options: Overflowing())
    (tmp_path / "run").mkdir()
    if what == "image":
        # Of each step's two evaluations one looks for the noise.
        result = make_image(ImageJob("light", settings={"steps": 20, "particles": 1}), tmp_path / "run")
    elif what == "flowedit":
        result = edit_photo(EditJob(str(photo), "dark", "light", steps=20), tmp_path / "run")
    else:
        result = invert_photo(InvertJob(str(photo), "dark", method=what, steps=20), tmp_path / "run")
    assert result.image.isfinite().all()
    assert written(tmp_path / "run")["skipped"] == BAD
    if what in ("irfds", "ode"):
        assert torch.load(tmp_path / "run" / "noise.pt", weights_only=True).isfinite().all()


@pytest.mark.parametrize("command", ["image", "invert", "edit"])
def test_a_big_models_text_encoders_are_gone_before_the_first_step(
    command: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []

    class Big(FlatPrior):
        vocabulary = None

        def embed(self, prompts: Sequence[str]) -> Condition:
            done.append(sorted({*prompts}))
            return super().embed(prompts)

        def release_text(self) -> None:
            done.append("released")

        def predict(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
            done.append("evaluated")
            return super().predict(x_t, t, condition)

    asked: dict[str, Any] = {}
    monkeypatch.setattr("rfgs.flat.runs.load_prior", lambda *_, **options: asked.update(options) or Big())
    (tmp_path / "run").mkdir()
    if command == "image":
        job = ImageJob("light", settings={"steps": 1, "particles": 2, "negative_prompt": "dark"})
        make_image(job, tmp_path / "run", say=done.append)
    elif command == "invert":
        invert_photo(InvertJob(str(photo), "light", method="ode", steps=1), tmp_path / "run", say=done.append)
    else:
        edit_photo(EditJob(str(photo), "dark", "light", steps=1), tmp_path / "run", say=done.append)
    prompts = ["", "light"] if command == "invert" else ["", "dark", "light"]
    images = "2 images" if command == "image" else "1 image"
    assert done[:3] == [prompts, "released", f"first step: {images} of 32 pixels"]
    assert "evaluated" in done[3:] and "released" not in done[3:]
    assert sorted(asked["prompts"](Big())) == prompts


def test_memory_that_does_not_suffice(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FlatPrior, "predict", full)
    (tmp_path / "run").mkdir()
    for work in (
        lambda: make_image(ImageJob("light", settings={"steps": 1}), tmp_path / "run"),
        lambda: invert_photo(InvertJob(str(photo), "dark"), tmp_path / "run"),
        lambda: edit_photo(EditJob(str(photo), "dark", "light"), tmp_path / "run"),
    ):
        with pytest.raises(UserError, match="lower --resolution or --particles, add --offload"):
            work()
