"""Models in a single file: restored exactly, offline; what they lack or are not is told in a line before they are loaded."""

from __future__ import annotations

import json
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rfgs.errors import UserError
from rfgs.models import single_file, weighing
from rfgs.models.available import check_source
from rfgs.models.catalog import name_of
from rfgs.models.kind import family_of, kind_of
from rfgs.models.memory import FOOTPRINTS, GIB, PROGRAM, on_the_cpu
from rfgs.priors import load_prior
from rfgs.priors.parts import Setup
from rfgs.priors.text import text_key
from rfgs.runs.job import Job
from rfgs.runs.methods import load_of
from tests.priors import layouts, single_files

HUB = "stabilityai/stable-diffusion-3.5-medium"


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what SD3.5 medium has and SD3 has not: second attention in some blocks, and queries that are normed."""
    folder = layouts.stable_diffusion_3(
        tmp_path_factory.mktemp("sd3"), t5=True, dual_attention_layers=(0,), qk_norm="rms_norm"
    )
    # Stability's first CLIP is not projected.
    encoder = layouts.CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder")
    torch.nn.init.eye_(encoder.text_projection.weight)
    encoder.save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.flux(tmp_path_factory.mktemp("flux"), dev=True)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network, an empty cache of the hub, and none of the embeddings that other tests made."""

    def connect(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "a token")
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "embeddings"))
    return tmp_path / "hub"


def parts_only(folder: Path, target: Path, *bare: str) -> Path:
    """A copy of a model without the weights of some parts."""
    shutil.copytree(folder, target)
    for part in bare:
        for file in (target / part).glob("*.safetensors"):
            file.unlink()
    return target


def outputs(source: str | Path, **options: Any) -> list[torch.Tensor]:
    prior = load_prior(source, **options)
    condition = prior.embed(["a red cube"])
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    v = prior.predict(x, torch.tensor([0.5]), condition)
    assert v.std() > 1e-4 and condition.pooled is not None
    return [condition.tokens, condition.pooled, v, prior.decode(x)]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        # Not the same bytes: how a product is summed up may depend on where in memory weights come to lie.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_all_in_one_file(sd3: Path, tmp_path: Path) -> None:
    file = single_files.write(tmp_path / "sd3.5_medium.safetensors", *single_files.everything_of_sd3(sd3))
    texts = [f"text_encoder{suffix}" for suffix in ("", "_2", "_3")]
    rest = parts_only(sd3, tmp_path / "parts", "transformer", "vae", *texts)
    assert check_source(str(file), parts=str(rest)) == str(file)
    assert kind_of(str(file)) == "flow" and name_of(str(file)) == "sd35-medium"
    assert_same(outputs(file, parts=rest), outputs(sd3))


def test_a_transformer_alone_with_parts_in_the_cache(sd3: Path, tmp_path: Path, alone: Path) -> None:
    """Without a prefix, in the half precision of the file, and all else from the model that the header says it is."""
    half = {name: value.bfloat16() for name, value in single_files.sd3_transformer(sd3).items()}
    file = single_files.write(tmp_path / "my.safetensors", half)
    layouts.in_the_cache(parts_only(sd3, tmp_path / "parts", "transformer"), alone, HUB)
    assert check_source(str(file)) == str(file)
    for ours, theirs in zip(outputs(file), outputs(sd3), strict=True):
        assert ((ours - theirs).norm() / theirs.norm()).item() < 0.02


def test_diffusers_own_names(sd3: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = shutil.copy(
        sd3 / "transformer" / "diffusion_pytorch_model.safetensors", tmp_path / "t.safetensors"
    )
    caplog.clear()
    assert_same(outputs(file, parts=sd3), outputs(sd3))
    assert "should be kept in float32" not in caplog.text


@pytest.mark.parametrize("before", ["", "model.diffusion_model."])
def test_flux(before: str, flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single_files.narrow_flux(monkeypatch, 32)
    tensors = single_files.under(before, single_files.flux_transformer(flux))
    file = single_files.write(tmp_path / "flux1-dev.safetensors", tensors)
    assert name_of(str(file)) == "flux-dev"
    rest = parts_only(flux, tmp_path / "parts", "transformer")
    assert check_source(str(file), parts=str(rest)) == str(file)
    assert_same(outputs(file, parts=rest), outputs(flux))


def test_what_the_header_says(sd3: Path, tmp_path: Path) -> None:
    tensors = single_files.everything_of_sd3(sd3)
    file = single_file.read(str(single_files.write(tmp_path / "m.safetensors", *tensors)))
    assert set(file.parts) == {"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}
    assert file.traits == single_file.traits_of(
        file.family, json.loads((sd3 / "transformer/config.json").read_text())
    )
    every = sum(value.numel() for value in tensors[0].values())
    assert file.parameters == every and file.size == 4 * every
    # Planned with in the precision that it is loaded in, and weighed as its folder is.
    found = weighing.footprint(str(file.path))
    assert found == replace(FOOTPRINTS["sd35-medium"], network=every)
    plain, full = (load_of(Job("", dtype=dtype), str(file.path)) for dtype in ("auto", "float32"))
    assert plain.network(found) == 2 * every and full.network(found) == 4 * every and plain.file
    # On its way to the GPU it is in the CPU's memory.
    passing = on_the_cpu(replace(found, t5=0), device="cuda", gpu=GIB << 5, load=plain)
    assert passing == PROGRAM + 2 * every
    for part in ("vae", "text_encoder", "text_encoder_3"):
        assert weighing.numbers(tmp_path / part, file) == weighing.numbers(sd3 / part)


def told(source: str | Path, **options: Any) -> str:
    with pytest.raises(UserError) as raised:
        check_source(str(source), **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_missing_is_told_before_anything_is_loaded(sd3: Path, tmp_path: Path) -> None:
    file = single_files.write(tmp_path / "sd3.5.safetensors", single_files.sd3_transformer(sd3))
    remedy = "give a folder of sd35-medium in diffusers' layout with --parts FOLDER"
    assert told(file) == (
        f"--model {file}: holds the transformer only, and for the rest {HUB}: not downloaded yet and the model hub cannot be "
        f"reached; check the connection, or {remedy}"
    )
    rest = parts_only(sd3, tmp_path / "parts", "text_encoder_2")
    assert told(file, parts=str(rest)) == (
        f"--model {file}: holds the transformer only, and for the rest --parts {rest} is incomplete, text_encoder_2/ holds "
        f"no weights; copy that, or {remedy}"
    )
    assert told(file, parts="nowhere") == f"--parts nowhere: no such folder; {remedy}"
    assert "--model names none" in told(sd3, parts=str(sd3))


def test_parts_of_another_model(sd3: Path, flux: Path, tmp_path: Path) -> None:
    file = single_files.write(tmp_path / "sd3.5.safetensors", single_files.sd3_transformer(sd3))
    assert told(file, parts=str(flux)) == (
        f"--model {file}: it is a StableDiffusion3Pipeline, and {flux} a FluxPipeline; give a folder of the same model with "
        "--parts FOLDER"
    )
    other = layouts.stable_diffusion_3(
        tmp_path / "other", t5=False, num_layers=3, dual_attention_layers=(0,), qk_norm="rms_norm"
    )
    expected = (
        f"--model {file}: its transformer has layers 2, and transformer/config.json says 3; give a folder of the same model "
        "with --parts FOLDER"
    )
    assert told(file, parts=str(other)) == expected
    with pytest.raises(UserError, match="its transformer has layers 2"):
        load_prior(file, parts=other)


LINES: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "a UNet": ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, "is a Stable Diffusion with a UNet"),
    "SDXL": (
        {"conditioner.embedders.0.x": torch.zeros(1), "model.diffusion_model.input_blocks.0.x": torch.zeros(1)},
        "is a Stable Diffusion XL, which has no adapter yet",
    ),
    "a LoRA": ({"transformer.blocks.0.lora_A.weight": torch.zeros(1)}, "is a LoRA, which is not a model of its own"),
    "NF4": ({"blocks.0.weight.quant_state.bitsandbytes__nf4": torch.zeros(1)}, "is quantized by bitsandbytes"),
    "else": ({"lm_head.weight": torch.zeros(1)}, "holds no such model \\(its first tensor is lm_head.weight\\)"),
    "scales": (
        {"img_in.weight": torch.zeros(2, 2), "double_blocks.0.x.scale_weight": torch.zeros(1)},
        "its weights are in 8 bit with scales beside them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LINES)
def test_files_that_are_no_such_model(what: str, tmp_path: Path) -> None:
    tensors, line = LINES[what]
    file = single_files.write(tmp_path / "m.safetensors", tensors)
    assert re.search(line, told(file)) and family_of(str(file)) in (None, single_file.FLUX)


def test_files_that_cannot_be_read(sd3: Path, tmp_path: Path) -> None:
    file = single_files.write(tmp_path / "m.safetensors", single_files.sd3_transformer(sd3))
    file.write_bytes(file.read_bytes()[:-9])
    size = file.stat().st_size
    assert told(file) == (
        f"--model {file}: is cut short ({size} of {size + 9} bytes); download or copy it again"
    )
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS placeholder" in told(file)
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "gone")
    assert "is a link to a file that is gone" in told(tmp_path / "link.safetensors")
    assert "no such file; give a file" in told("models/typo.safetensors")
    (tmp_path / "m.ckpt").touch()
    assert "take the same model as .safetensors" in told(tmp_path / "m.ckpt")
    (tmp_path / "i.safetensors").touch()
    assert "from a folder in diffusers' layout only" in told(f"instaflow:{tmp_path / 'i.safetensors'}")


@pytest.mark.parametrize("gone", ["joint_blocks.1.x_block.attn.proj.weight", "context_embedder.bias"])
def test_tensors_that_are_missing(gone: str, sd3: Path, tmp_path: Path) -> None:
    tensors = single_files.sd3_transformer(sd3)
    del tensors[gone]
    file = single_files.write(tmp_path / "m.safetensors", tensors)
    with pytest.raises(UserError) as raised:
        load_prior(file, parts=sd3)
    assert f"m.safetensors lacks weights of the transformer ('{gone}')" in str(raised.value)


def test_embeddings_are_those_of_the_files_encoders(sd3: Path, tmp_path: Path) -> None:
    """The key of what is kept on disk has the file in it, if that holds text encoders."""
    cpu, everything = torch.device("cpu"), single_files.everything_of_sd3(sd3)
    alone, whole = (
        single_file.read(str(single_files.write(tmp_path / f"{number}.safetensors", *tensors)))
        for number, tensors in enumerate((everything[:1], everything))
    )
    keys = [text_key(str(sd3), Setup(cpu, file=file), "sd3") for file in (None, alone, whole)]
    assert keys[0] == keys[1] != keys[2]
