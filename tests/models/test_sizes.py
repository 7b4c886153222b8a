"""Sizes of pictures that a model takes, told before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rfgs.errors import UserError
from rfgs.models.catalog import BACKENDS
from rfgs.models.sizes import check_resolution, limits


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend.hub_id], ids=lambda b: b.name)
def test_big_models_by_their_family(backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    transformer = backend.family.name in ("sd3", "flux", "flux2", "z-image")
    assert limits(backend.name) == (16 if transformer else 8, None)


@pytest.mark.parametrize(
    ("source", "size", "message"),
    [
        ("tiny-sd3", 72, "takes multiples of 16 pixels; try --resolution 64"),
        ("tiny-sd3", 120, "takes multiples of 16 pixels; try --resolution 128"),
        ("tiny-sd3", 512, "takes 256 pixels at most; try --resolution 256"),
        ("tiny-sd3", 520, "takes multiples of 16 pixels; try --resolution 256"),
        ("tiny-sd", 100, "takes multiples of 8 pixels; try --resolution 96"),
        ("sd3", 120, "takes multiples of 16 pixels; try --resolution 128"),
    ],
)
def test_sizes_that_cannot_be(source: str, size: int, message: str) -> None:
    with pytest.raises(UserError) as raised:
        check_resolution(source, size)
    assert str(raised.value) == f"--resolution {size}: {source} {message}"


def test_sizes_that_can_be() -> None:
    for source, size in (
        ("tiny-sd3", 256),
        ("tiny-sd3", 96),
        ("tiny-sd", 72),
        ("tiny-exact", 72),
        ("sd3", 1024),
    ):
        assert check_resolution(source, size) == size


def test_the_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    assert limits(str(tmp_path)) == (16, None)
    for part in ("vae", "transformer"):
        (tmp_path / part).mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps({"block_out_channels": [8, 8, 8]}))
    for network in ("FluxTransformer2DModel", "Flux2Transformer2DModel", "ZImageTransformer2DModel"):
        (tmp_path / "transformer/config.json").write_text(
            json.dumps({"_class_name": network, "patch_size": 1, "all_patch_size": [2]})
        )
        assert limits(str(tmp_path)) == (8, None)
