"""A start in phases: texts first and gone, then the network, straight to where it computes; each told with its size."""

from __future__ import annotations

import gc
import json
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rfgs.models import single_file, weighing
from rfgs.models.memory import FOOTPRINTS
from rfgs.priors import load_prior, parts, sd3, text
from rfgs.priors import qwen as reads
from rfgs.priors.fit import fit_latents
from rfgs.priors.phases import gigabytes, tell_download
from tests.priors import layouts, single_files

PROMPTS = ["a red cube", "blue", "a red cube"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.stable_diffusion_3(tmp_path_factory.mktemp("sd3"), t5=True)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose prompts Qwen3 reads."""
    return {
        "klein": layouts.klein(tmp_path_factory.mktemp("klein")),
        "z-image": layouts.z_image(tmp_path_factory.mktemp("z-image")),
    }


@pytest.fixture(autouse=True)
def no_embeddings_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("offload", [False, True])
def test_texts_are_embedded_and_gone_before_the_network_is_read(
    offload: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders: list[weakref.ref] = []
    alive: list[int] = []
    load, load_whole = parts.load_module, parts.load_network

    def load_encoder(*args: Any, **options: Any) -> Any:
        module = load(*args, **options)
        encoders.append(weakref.ref(module))
        return module

    def load_network(kind: Any, source: str, part: str, setup: parts.Setup) -> Any:
        if not setup.empty:
            alive.append(sum(encoder() is not None for encoder in encoders))
        return load_whole(kind, source, part, setup)

    monkeypatch.setattr(text, "load_module", load_encoder)
    monkeypatch.setattr(sd3, "load_network", load_network)
    said: list[str] = []
    gc.collect()
    gc.disable()  # As while `rfgs generate` starts.
    try:
        prior: Any = load_prior(folder, offload=offload, prompts=lambda empty: PROMPTS, say=said.append)
    finally:
        gc.enable()
    assert len(encoders) == 3 and alive == [0]
    size = r"[\d.]+ GB"
    expected = [f"reading the text encoders, {size}", "embedding 2 prompts", f"reading the network, {size}"]
    assert len(said) == 3 and all(map(re.fullmatch, expected, said))
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "none of ours"))
    plain = load_prior(folder)
    ours, theirs = prior.embed(PROMPTS), plain.embed(PROMPTS)
    assert len(encoders) == 6 and torch.equal(ours.tokens, theirs.tokens)
    x, t = torch.ones(3, 16, 8, 8), torch.full((3,), 0.5)
    torch.testing.assert_close(prior.predict(x, t, ours), plain.predict(x, t, theirs))
    # What comes up later is read as ever, and let go again.
    green = prior.embed(["green"]).tokens
    assert len(encoders) == 9 and torch.equal(green, plain.embed(["green"]).tokens)
    assert said[3:] == [said[0], "embedding 1 prompt"]
    gc.collect()
    assert all(encoder() is None for encoder in encoders[6:9])


@pytest.mark.parametrize("name", ["klein", "z-image"])
def test_texts_come_first_where_qwen_reads_them(
    name: str, qwen: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    load, load_whole = parts.load_module, parts.load_network

    def load_encoder(kind: Any, source: str, part: str, **options: Any) -> Any:
        order.append(part)
        return load(kind, source, part, **options)

    def load_network(kind: Any, source: str, part: str, setup: parts.Setup) -> Any:
        if not setup.empty:
            order.append(part)
        return load_whole(kind, source, part, setup)

    monkeypatch.setattr(text, "load_module", load_encoder)
    monkeypatch.setattr(reads, "load_network", load_network)
    said: list[str] = []
    prior: Any = load_prior(qwen[name], prompts=lambda empty: [str(empty.time_shift)], say=said.append)
    assert order == ["text_encoder", "transformer"]
    assert [line.partition(",")[0] for line in said] == [
        "reading the text encoders",
        "embedding 1 prompt",
        "reading the network",
    ]
    plain: Any = load_prior(qwen[name])
    prompt = str(plain.time_shift)  # The settings are known before there are weights.
    x = torch.ones(1, prior.network.config.in_channels, 4, 4)
    ours, theirs = (one.predict(x, torch.full((1,), 0.5), one.embed([prompt])) for one in (prior, plain))
    torch.testing.assert_close(ours, theirs)


def test_texts_come_first_with_a_single_file_and_a_lora(folder: Path, tmp_path: Path) -> None:
    """The parts of both are weighed together, and the LoRA is added to the network that has weights."""
    file = single_files.write(tmp_path / "m.safetensors", single_files.sd3_transformer(folder))
    said: list[str] = []
    options: dict[str, Any] = {"parts": folder, "lora": lora(folder, tmp_path / "lora.safetensors")}
    ours: Any = load_prior(file, prompts=lambda empty: PROMPTS, say=said.append, **options)
    assert said[1] == "embedding 2 prompts" and said[2].startswith("reading the network, ")
    theirs: Any = load_prior(file, **options)
    plain: Any = load_prior(folder)
    x, t = torch.ones(3, 16, 8, 8), torch.full((3,), 0.5)
    v = [prior.predict(x, t, prior.embed(PROMPTS)) for prior in (ours, theirs, plain)]
    assert torch.equal(v[0], v[1]) and (v[0] - v[2]).abs().max() > 1e-4
    found = single_file.read(str(file))
    names = weighing.parts(folder, file=found)
    assert "transformer" in names and weighing.size(folder, ["transformer"], found) == found.size
    every = weighing.size(folder, names)
    assert weighing.size(folder, names, found) == pytest.approx(
        every, rel=0.05
    )  # Headers are longer or shorter.


def lora(folder: Path, file: Path) -> Path:
    """One of rank 1 on the values of the first block."""
    width = width_of(folder)
    before = "transformer.transformer_blocks.0.attn.to_v.lora_"
    tensors = {f"{before}A.weight": torch.ones(1, width), f"{before}B.weight": torch.ones(width, 1)}
    save_file(tensors, file)
    return file


def width_of(folder: Path) -> int:
    config = json.loads((folder / "transformer/config.json").read_text())
    return config["num_attention_heads"] * config["attention_head_dim"]


def test_embedded_models_start_without_a_word() -> None:
    said: list[str] = []
    load_prior("tiny-sd3", engine="torch", prompts=lambda empty: ["a red cube"], say=said.append)
    assert said == []


def test_the_prompts_are_made_of_a_prior_that_knows_its_settings(folder: Path) -> None:
    seen: list[Any] = []
    load_prior(folder, prompts=lambda empty: [seen.append(empty) or "blue"])
    (empty,) = seen
    plain: Any = load_prior(folder)
    assert (empty.image_size, empty.time_shift, empty.dtype) == (
        plain.image_size,
        plain.time_shift,
        plain.dtype,
    )
    assert {parameter.device.type for parameter in empty.network.parameters()} == {"meta"}


class Kind:
    """A class of modules that notes how it was asked for one, and where that was moved."""

    asked: dict[str, Any]

    @classmethod
    def from_pretrained(cls, source: str, **options: Any) -> tuple[Kind, dict[str, Any]]:
        cls.asked = options
        return cls(), {"missing_keys": []}

    def to(self, device: torch.device) -> Kind:
        self.asked["moved"] = device
        return self

    def eval(self) -> Kind:
        return self

    def requires_grad_(self, on: bool) -> Kind:
        return self


def test_weights_go_straight_to_the_gpu(folder: Path) -> None:
    cuda = torch.device("cuda")
    parts.load_module(Kind, str(folder), "transformer", device=cuda, dtype=torch.bfloat16)
    assert Kind.asked["device_map"] == {"": cuda} and "moved" not in Kind.asked
    parts.load_module(Kind, str(folder), "transformer", device=torch.device("cpu"), dtype=torch.float32)
    assert "device_map" not in Kind.asked


def test_t5_is_on_the_cpu_where_the_card_has_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 2 * weighing.numbers(folder / "text_encoder_3")
    setup = parts.Setup(torch.device("cuda"), torch.float16)
    for free, expected in ((size + (2 << 30) + 1, (setup.device, torch.float16)), (size + (2 << 30), None)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        found = text._home(str(folder), "text_encoder_3", setup)
        assert found == (expected or (torch.device("cpu"), torch.bfloat16))


def test_a_folder_is_weighed_as_a_backend_is(folder: Path, tmp_path: Path) -> None:
    prior: Any = load_prior(folder)
    found = weighing.footprint(str(folder))
    assert found is not None
    tensors = prior.network.state_dict().values()
    assert found.network == sum(tensor.numel() for tensor in tensors)
    encoders = [part.encoder for part in prior._load_text()]
    files = [weighing.numbers(folder / f"text_encoder{suffix}") for suffix in ("", "_2", "_3")]
    assert found.clip == sum(files) and found.t5 == 0  # A T5 this small is nothing to plan for.
    for count, encoder in zip(files, encoders, strict=True):
        own = sum(parameter.numel() for parameter in encoder.parameters())
        assert own <= count <= 1.01 * own + 1000
    assert found.sample == FOOTPRINTS["sd3"].sample
    assert weighing.footprint("sd3") == FOOTPRINTS["sd3"] and weighing.footprint(str(tmp_path)) is None
    # Weights in four bits are bytes of two numbers each.
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text(json.dumps({}))
    tensors = {"a": torch.zeros(10, dtype=torch.uint8), "b": torch.zeros(3, dtype=torch.float32)}
    save_file(tensors, tmp_path / "unet/diffusion_pytorch_model.safetensors")
    assert weighing.numbers(tmp_path / "unet") == 5 + 3


def test_a_folder_that_qwen_reads_for_is_weighed(
    qwen: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no T5 that could be left out."""
    monkeypatch.setattr(weighing, "LARGE_TEXT", 1000)
    found = weighing.footprint(str(qwen["klein"]))
    assert found and found.t5 == found.clip == 0
    assert found.qwen == weighing.numbers(qwen["klein"] / "text_encoder") > 1000


def test_a_damaged_file_is_weighed_by_its_length(tmp_path: Path) -> None:
    """Loading tells what is wrong with it."""
    part = tmp_path / "unet"
    part.mkdir()
    (part / "config.json").write_text("{}")
    for content in (b"", b"12345678", bytes(8) + b"{}", (2).to_bytes(8, "little") + b"[]" + bytes(20)):
        (part / "diffusion_pytorch_model.safetensors").write_bytes(content)
        assert weighing.numbers(part) in (0, len(content) // 2)


def test_a_download_is_told_with_its_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    tell_download(str(folder), said.append, t5=True)
    assert said == []
    monkeypatch.setattr("rfgs.models.snapshot.lacks", lambda hub_id, **_: "all")
    monkeypatch.setattr("rfgs.models.snapshot.cached", lambda hub_id: None)
    hub_id = "stabilityai/stable-diffusion-3-medium-diffusers"
    tell_download(hub_id, said.append, t5=True)
    tell_download("somebody/elses-model", said.append, t5=True)
    # What a single file lacks, which nobody has weighed.
    tell_download(hub_id, said.append, t5=True, bare=["transformer"])
    assert said == [
        f"downloading {hub_id}, 15 GB",
        "downloading somebody/elses-model",
        f"downloading {hub_id}",
    ]
    assert gigabytes(4.2e9) == "4.2 GB" and gigabytes(0) == "0.0 GB"


def test_images_whose_latents_move_are_fitted(folder: Path) -> None:
    prior: Any = load_prior(folder)
    sample = 1 << 20
    asked = {"images": 4, "size": 64, "sample": sample}
    assert fit_latents(prior, **asked, free=10 * sample) is None and prior.max_batch is None
    assert fit_latents(prior, **asked, free=8 * sample) == (
        "images go through the model one by one, to fit the memory"
    )
    assert prior.max_batch == 2 and prior.autoencoder.module.dtype == torch.float32
    assert "pictures are decoded in half precision" in str(fit_latents(prior, **asked, free=0))
    assert prior.autoencoder.module.dtype == torch.bfloat16
