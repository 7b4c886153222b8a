"""Quantized transformers: GGUF computes what its numbers say, and what cannot be read here is told in a line."""

from __future__ import annotations

import gc
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rfgs.errors import UserError
from rfgs.guidance.lora import Student
from rfgs.models import machine, single_file, weighing
from rfgs.models.available import check_source
from rfgs.models.catalog import name_of
from rfgs.priors import engine, load_prior, parts
from rfgs.runs.job import Job
from rfgs.runs.methods import load_of
from tests.priors import layouts, single_files

try:
    importlib.metadata.version("gguf")
    HAS_GGUF = True
except importlib.metadata.PackageNotFoundError:
    HAS_GGUF = False
needs_gguf = pytest.mark.skipif(not HAS_GGUF, reason="the library gguf is not installed")


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for blocks of 32 weights."""
    return layouts.stable_diffusion_3(
        tmp_path_factory.mktemp("sd3"), t5=False, attention_head_dim=16, caption_projection_dim=32
    )


@pytest.fixture(scope="module")
def quantized(sd3: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF, and a file of plain numbers with the same values."""
    folder = tmp_path_factory.mktemp("files")
    kept = single_files.write_gguf(folder / "sd3-Q8_0.gguf", single_files.sd3_transformer(sd3))
    return folder / "sd3-Q8_0.gguf", single_files.write(folder / "plain.safetensors", kept)


def question() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.9])


@needs_gguf
def test_gguf_computes_what_its_numbers_say(sd3: Path, quantized: tuple[Path, Path]) -> None:
    ours, theirs = (load_prior(file, parts=sd3) for file in quantized)
    assert ours.dtype == torch.float32  # type: ignore[attr-defined]
    kinds = {type(module).__name__ for module in ours.network.modules()}  # type: ignore[attr-defined]
    assert "GGUFLinear" in kinds
    text = ours.embed(["a red cube", "blue"])
    expected = theirs.predict(*question(), text)
    assert expected.std() > 1e-4
    torch.testing.assert_close(ours.predict(*question(), text), expected, atol=1e-6, rtol=1e-4)


@needs_gguf
def test_gguf_in_half_precision(sd3: Path, quantized: tuple[Path, Path]) -> None:
    exact = load_prior(quantized[1], parts=sd3)
    prompts = ["a red cube", "blue"]
    half: Any = load_prior(quantized[0], parts=sd3, dtype=torch.bfloat16, prompts=lambda empty: prompts)
    text = exact.embed(prompts)
    # Embedded before there was a network, in what that computes in.
    assert half.embed(prompts).tokens.dtype == half.dtype == torch.bfloat16
    expected = exact.predict(*question(), text)
    found = half.predict(*question(), text.to(torch.device("cpu"), torch.bfloat16))
    assert 1e-4 < (found - expected).norm() / expected.norm() < 0.05


@needs_gguf
def test_a_student_learns_on_a_gguf(sd3: Path, quantized: tuple[Path, Path]) -> None:
    """The LoRA of VSD and RFDS-VSD lives beside quantized weights, and leaves them as they were."""
    prior = load_prior(quantized[0], parts=sd3)
    (x, t), text = question(), prior.embed(["a red cube", "blue"])
    before = prior.predict(x, t, text)
    student = Student(prior, rank=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(student.predict(x, t, text, None), before)
    losses = [student.learn(x, t, text, None, torch.ones_like(x), 1e-2).item() for _ in range(5)]
    assert losses[-1] < losses[0]
    assert torch.equal(prior.predict(x, t, text), before)
    del student
    gc.collect()
    assert torch.equal(prior.predict(x, t, text), before)


@needs_gguf
def test_the_header_of_a_gguf(sd3: Path, quantized: tuple[Path, Path]) -> None:
    file, plain = (single_file.read(str(path)) for path in quantized)
    assert (file.traits, file.parameters) == (plain.traits, plain.parameters)
    assert file.quantized and set(file.parts) == {"transformer"} and name_of(str(quantized[0])) == "sd3"
    # Planned with as it is in the file, whatever it is computed in.
    for dtype in ("auto", "float32"):
        load, found = load_of(Job("", dtype=dtype), str(file.path)), weighing.footprint(str(file.path))
        assert found and load.network(found) == file.size
    assert 0.9 * quantized[0].stat().st_size < file.size < quantized[0].stat().st_size
    assert check_source(str(quantized[0]), parts=str(sd3)) == str(quantized[0])


@needs_gguf
def test_a_gguf_that_is_cut_short(quantized: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(quantized[0].read_bytes()[:-999])
    with pytest.raises(
        UserError, match="m.gguf: is not a GGUF file, or is cut short; download or copy it again"
    ):
        check_source(str(file))


@needs_gguf
def test_openvino_reads_no_gguf(
    sd3: Path, quantized: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "version", lambda library: "1")
    prior = load_prior(quantized[0], parts=sd3, engine="torch")
    with pytest.raises(UserError, match="--engine openvino: it does not read quantized weights"):
        engine.attach(prior.network, "openvino")  # type: ignore[attr-defined]


def test_a_gguf_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda library: None)
    (tmp_path / "m.gguf").touch()
    with pytest.raises(UserError) as raised:
        check_source(str(tmp_path / "m.gguf"))
    assert str(raised.value) == (
        f"--model {tmp_path / 'm.gguf'}: is read with the library gguf, which is not installed; "
        "install it with `pip install 'rfgs[gguf]'`"
    )


@pytest.mark.parametrize(
    ("said", "installed", "line"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, None, "bitsandbytes, which is not installed; install it "),
        ({"load_in_8bit": True}, "1", "bitsandbytes, which computes on an NVIDIA GPU, and this run is on the CPU"),
        ({"quant_method": "torchao"}, None, "torchao, which is not installed; install it with `pip install torchao`"),
    ],
)  # fmt: skip
def test_weights_that_were_saved_quantized(
    said: dict[str, Any],
    installed: str | None,
    line: str,
    sd3: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "version", lambda library: installed)
    folder = layouts.shutil.copytree(sd3, tmp_path / "model")
    config = json.loads((folder / "transformer/config.json").read_text())
    (folder / "transformer/config.json").write_text(json.dumps({**config, "quantization_config": said}))
    with pytest.raises(UserError) as raised:
        load_prior(folder)
    assert f"{folder}: its transformer is quantized by {line}" in str(raised.value)


def test_how_nf4_is_asked_for(sd3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes itself wants a GPU."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(parts, "load_module", lambda *_, **options: asked.update(options))
    monkeypatch.setattr(importlib.metadata, "version", lambda library: "1.0")
    setup = parts.Setup(torch.device("cuda"), torch.bfloat16, quantize="nf4")
    parts.load_network("builtins:object", str(sd3), "transformer", setup)
    config = asked["quantization_config"]
    assert config.load_in_4bit and config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    with pytest.raises(UserError, match="--quantize nf4: bitsandbytes computes on an NVIDIA GPU"):
        load_prior(sd3, quantize="nf4")
