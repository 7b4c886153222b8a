"""A model that is not whole is told from its files alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from rfgs.models.layout import missing


def weights(file: Path, numbers: int = 6) -> None:
    """A file of safetensors with one tensor, written out here."""
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}, "__metadata__": {}}
    ).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4 * numbers)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    parts = (
        "transformer",
        "vae",
        "text_encoder",
        "tokenizer",
        "scheduler",
        "text_encoder_3",
        "safety_checker",
    )
    index = {"_class_name": "X", "_diffusers_version": "1", "feature_extractor": [None, None]}
    (tmp_path / "model_index.json").write_text(
        json.dumps(index | {part: ["library", "Class"] for part in parts})
    )
    for part in ("transformer", "vae", "text_encoder"):
        weights(tmp_path / part / "model.safetensors")
        (tmp_path / part / "config.json").write_text("{}")
    for file in ("tokenizer/vocab.json", "scheduler/scheduler_config.json"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("{}")
    return tmp_path


def test_a_whole_model(model: Path) -> None:
    """SD3 may come without T5, and a safety checker is never loaded."""
    assert missing(model) is None


def test_the_embedded_model() -> None:
    from rfgs.models.catalogue import BACKENDS, embedded_folder

    for backend in BACKENDS:
        if not backend.hub_id:
            assert missing(embedded_folder(backend)) is None


def test_parts(model: Path) -> None:
    (model / "scheduler/scheduler_config.json").unlink()
    assert missing(model) == "scheduler/scheduler_config.json is missing"
    (model / "tokenizer/vocab.json").unlink()
    assert missing(model) == "tokenizer/ is empty"
    (model / "vae/model.safetensors").unlink()
    assert missing(model) == "vae/ holds no weights"
    (model / "vae/config.json").unlink()
    assert missing(model) == "vae/config.json is missing"
    (model / "vae").rmdir()
    assert missing(model) == "the part vae/ is missing"
    (model / "model_index.json").write_text("{")
    assert missing(model) == "model_index.json cannot be read"


@pytest.mark.parametrize("kept", [-1, 30])
def test_a_file_cut_short(model: Path, kept: int) -> None:
    file = model / "transformer/model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    found = missing(model)
    assert found is not None and found.startswith("transformer/model.safetensors is cut short (")


def test_a_placeholder(model: Path) -> None:
    """What `git clone` leaves without Git LFS."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (model / "vae/model.safetensors").write_text(text)
    assert missing(model) == "vae/model.safetensors is no file of weights (a placeholder of Git LFS?)"


def test_pieces(model: Path) -> None:
    place = model / "transformer"
    (place / "model.safetensors").unlink()
    pieces = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    (place / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": pieces[0], "b": pieces[1]}})
    )
    # Another precision, of which nothing is there.
    (place / "model.fp16.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "other.safetensors"}})
    )
    for piece in pieces:
        weights(place / piece)
    assert missing(model) is None
    (place / pieces[1]).unlink()
    assert missing(model) == f"transformer/{pieces[1]} is missing"
