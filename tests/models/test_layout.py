"""An incomplete model is told from its files alone."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from rfgs.models.layout import missing, wanted, weight_sets


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
    for file in (
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    return tmp_path


def test_a_whole_model(model: Path) -> None:
    """SD3 may come without T5, and a safety checker is never loaded."""
    assert missing(model) is None


def test_the_embedded_model() -> None:
    from rfgs.models.catalog import BACKENDS, embedded_folder

    for backend in BACKENDS:
        if not backend.hub_id:
            assert missing(embedded_folder(backend)) is None


def test_parts(model: Path) -> None:
    (model / "scheduler/scheduler_config.json").unlink()
    assert missing(model) == "scheduler/scheduler_config.json is missing"
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        kept = (model / "tokenizer" / file).rename(model / file)
        assert missing(model) == f"tokenizer/{file} is missing"
        kept.rename(model / "tokenizer" / file)
    shutil.rmtree(model / "tokenizer")
    (model / "tokenizer").mkdir()
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
    assert missing(model) == "vae/model.safetensors is not a file of weights (a Git LFS placeholder?)"


def test_pieces(model: Path) -> None:
    place = model / "transformer"
    (place / "model.safetensors").unlink()
    pieces = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    (place / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": pieces[0], "b": pieces[1]}})
    )
    # Another precision, of which nothing is there.
    (place / "model.safetensors.index.fp16.json").write_text(
        json.dumps({"weight_map": {"a": "other.safetensors"}})
    )
    for piece in pieces:
        weights(place / piece)
    assert missing(model) is None
    (place / pieces[1]).unlink()
    assert missing(model) == f"transformer/{pieces[1]} is missing"


SETS = {
    "fp16": ["{stem}.fp16.safetensors"],
    "bf16": ["{stem}.bf16.safetensors"],
    "shards": ["{stem}-0000{n}-of-00002.safetensors", "{stem}.safetensors.index.json"],
    "fp16-shards": ["{stem}.fp16-0000{n}-of-00002.safetensors", "{stem}.safetensors.index.fp16.json"],
    "old fp16-shards": ["{stem}-0000{n}-of-00002.fp16.safetensors", "{stem}.safetensors.index.fp16.json"],
}


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model"])
@pytest.mark.parametrize("names", SETS.values(), ids=list(SETS))
def test_standard_names(names: list[str], stem: str, model: Path) -> None:
    """A set is whole under every standard name, and the first missing file of one that is not is named."""
    place = model / "transformer"
    (place / "model.safetensors").unlink()
    pieces = sorted({names[0].format(stem=stem, n=n) for n in (1, 2)})
    for piece in pieces:
        weights(place / piece)
    if names[1:]:
        listed = place / names[1].format(stem=stem)
        listed.write_text(json.dumps({"weight_map": {f"w{i}": piece for i, piece in enumerate(pieces)}}))
    assert missing(model) is None
    files = sorted(f"transformer/{file.name}" for file in place.iterdir())
    index = json.loads((model / "model_index.json").read_text())
    listing = [*files, "transformer/flax_model.msgpack", "transformer/other.safetensors", "README.md"]
    assert set(wanted(index, listing, t5=True, only=())) == set(files)
    if names[1:]:
        listed.rename(model / "list")
        assert missing(model) == f"transformer/{listed.name} is missing"
        (model / "list").rename(listed)
    (place / pieces[-1]).unlink()
    expected = f"{pieces[-1]} is missing" if names[1:] else " holds no weights"
    assert missing(model) == f"transformer/{expected}"


def test_of_several_sets_one_is_taken(model: Path) -> None:
    names = [
        "model.fp16.safetensors",
        "model.safetensors",
        "model.bin",
        "pytorch_model.bin",
        "openvino_model.bin",
    ]
    first = weight_sets(names)[0]
    assert first.files == ("model.safetensors",) and first.variant is None and first.safetensors
    assert weight_sets(["pytorch_model.bin", "model.fp16.safetensors"])[0].variant == "fp16"
    assert not weight_sets(["pytorch_model.bin"])[0].safetensors and weight_sets(["openvino_model.bin"]) == []
    # Beside the pieces of another precision, of which one is missing.
    place = model / "transformer"
    weights(place / "model.fp16-00001-of-00002.safetensors")
    assert missing(model) is None


def test_without_t5(model: Path) -> None:
    (model / "text_encoder_3").mkdir()
    (model / "text_encoder_3/config.json").write_text("{}")
    assert missing(model) == "text_encoder_3/ holds no weights" and missing(model, t5=False) is None
    shutil.rmtree(model / "text_encoder_3")
    assert missing(model) is None
    assert missing(model, strict=True) == "the part text_encoder_3/ is missing"
    assert missing(model, strict=True, t5=False) is None
    assert missing(model, only=("vae",)) is None


def test_a_tokenizer_of_t5(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(
        json.dumps(index | {"tokenizer": ["transformers", "T5TokenizerFast"]})
    )
    assert missing(model) == "tokenizer/tokenizer.json is missing, and spiece.model too"
    (model / "tokenizer/tokenizer.json").write_text("{")
    assert missing(model) == "tokenizer/tokenizer.json cannot be read"
    (model / "tokenizer/tokenizer.json").write_text("{}")
    assert missing(model) is None


def test_a_tokenizer_of_a_language_model(model: Path) -> None:
    """It has to know how a prompt is put to the model: in a file, or in its configuration as older versions wrote it."""
    place, index = model / "tokenizer", json.loads((model / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "Qwen2TokenizerFast"]
    (model / "model_index.json").write_text(json.dumps(index))
    assert missing(model) == "tokenizer/chat_template.jinja is missing"
    (place / "chat_template.jinja").write_text("{{ messages }}")
    assert missing(model) is None
    listing = [f"tokenizer/{file.name}" for file in place.iterdir()]
    assert set(wanted(index, listing, t5=True, only=())) == set(listing)
    (place / "chat_template.jinja").unlink()
    (place / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert missing(model) is None


def test_pickled_weights(model: Path) -> None:
    place = model / "vae"
    (place / "model.safetensors").unlink()
    with zipfile.ZipFile(place / "diffusion_pytorch_model.bin", "w") as file:
        file.writestr("data", "x" * 1000)
    assert missing(model) is None
    whole = (place / "diffusion_pytorch_model.bin").read_bytes()
    (place / "diffusion_pytorch_model.bin").write_bytes(whole[:-100])
    assert missing(model) == "vae/diffusion_pytorch_model.bin is cut short"


def test_a_folder_that_may_not_be_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuses)
    problem = missing(model)
    assert (
        problem and problem.startswith(str(model)) and problem.endswith("cannot be read (permission denied)")
    )


def test_a_link_to_nothing(model: Path) -> None:
    (model / "vae/model.safetensors").unlink()
    (model / "vae/model.safetensors").symlink_to(model / "blobs/gone")
    assert missing(model) == "vae/model.safetensors is a link to a file that is gone"
