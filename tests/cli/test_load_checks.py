"""Ways to load a model that are refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rfgs.cli.load_checks import check_loading, check_photo_job, check_room
from rfgs.errors import UserError
from rfgs.flat.jobs import InvertJob
from rfgs.models import machine, memory, ram
from rfgs.models.catalog import BACKENDS
from rfgs.models.families import FLUX
from rfgs.runs.job import Loading


@pytest.mark.parametrize(
    ("loading", "device", "guidance", "message"),
    [
        (Loading(t5="8bit"), "cpu", "rfds", "--t5 8bit: bitsandbytes computes on an NVIDIA GPU"),
        (
            Loading(t5="8bit"),
            "cuda",
            "rfds",
            "--t5 8bit: bitsandbytes is not installed; install it with `pip",
        ),
        (Loading(quantize="nf4"), "cpu", "rfds", "--quantize nf4: bitsandbytes computes on an NVIDIA GPU"),
        (
            Loading(quantize="nf4"),
            "cuda",
            "rfds",
            r"--quantize nf4: bitsandbytes is not installed; install it with `pip install 'rfgs\[nf4\]'`",
        ),
        (Loading(lora="none.safetensors"), "cpu", "rfds", "--lora none.safetensors: no such file"),
        (
            Loading(lora="x", quantize="nf4"),
            "cpu",
            "rfds",
            "--quantize nf4: bitsandbytes computes on an NVIDIA",
        ),
        (Loading(lora_scale=0.5), "cpu", "rfds", "--lora-scale 0.5: says nothing without --lora"),
        (Loading(dtype="float16"), "cpu", "rfds", "--dtype float16: this run is on the CPU.*use --dtype bfl"),
        (Loading(offload=True), "cpu", "rfds", "--offload: this run is on the CPU"),
        (Loading(offload=True), "cuda", "vsd", "--offload: --guidance vsd trains a LoRA"),
        (
            Loading(offload=True, compile=True),
            "cuda",
            "rfds",
            "--compile: weights that come and go with --off",
        ),
    ],
)
def test_ways_to_load_that_cannot_be(
    loading: Loading, device: str, guidance: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "version", lambda library: None)
    with pytest.raises(UserError, match=message):
        check_loading(loading, device, guidance, source="sd3")


def test_ways_to_load_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda library: "1")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    check_loading(Loading(), "cpu", "vsd", source="sd15")
    check_loading(Loading(t5="drop", dtype="bfloat16", compile=True), "cpu", "vsd", source="sd15")
    check_loading(Loading(t5="8bit", dtype="float16", compile=True), "cuda", "rfds-vsd", source="flux-dev")
    check_loading(Loading(t5="8bit", offload=True), "cuda", "rfds", source="sd3")
    check_loading(Loading(quantize="nf4", compile=True), "cuda", "rfds-vsd", source="flux-dev")
    with pytest.raises(UserError, match="--quantize nf4: is for the transformers of SD3, SD3.5 and FLUX"):
        check_loading(Loading(quantize="nf4"), "cuda", "sds", source="sd15")
    with pytest.raises(UserError, match="--offload: quantized weights stay on the GPU"):
        check_loading(Loading(quantize="nf4", offload=True), "cuda", "rfds", source="sd3")
    with pytest.raises(UserError, match="--offload: this model is small enough"):
        check_loading(Loading(offload=True), "cuda", "rfds", source="tiny-sd3", small=True)


def test_a_flux_without_t5_is_refused_before_anything_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    hub_ids = [backend.hub_id for backend in BACKENDS if backend.family is FLUX]
    for source in ("flux-dev", "flux-schnell", *hub_ids, str(tmp_path)):
        with pytest.raises(UserError) as raised:
            check_loading(Loading(t5="drop"), "cpu", source=str(source))
        assert str(raised.value) == (
            f"--t5 drop: {source} reads prompts with T5 alone; use --t5 keep or --t5 8bit"
        )
        check_loading(Loading(), "cpu", source=str(source))
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    for source in ("sd3", str(tmp_path), "somebody/elses-model"):
        check_loading(Loading(t5="drop"), "cpu", source=source)


def test_what_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda library: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("CXX", "my-compiler")
    with pytest.raises(UserError, match="--compile: torch compiles for a GPU with Triton, which is not inst"):
        check_loading(Loading(compile=True), "cuda", source="sd3")
    monkeypatch.setattr(machine, "version", lambda library: "3.4" if library == "triton" else None)
    for device in ("cpu", "cuda"):
        monkeypatch.setattr("shutil.which", lambda name: None)
        with pytest.raises(
            UserError, match=r"--compile: .* C\+\+ compiler, and none is found.*, or leave it"
        ):
            check_loading(Loading(compile=True), device, source="sd3")
        monkeypatch.setattr("shutil.which", lambda name: name if name == "my-compiler" else None)
        check_loading(Loading(compile=True), device, source="sd3")


def room(free: float | None, job: Loading, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """What is said where so many GiB of the CPU's memory are free."""
    monkeypatch.setattr(ram, "available", lambda: None if free is None else int(free * memory.GIB))
    load = memory.Load(offload=job.offload, full=job.dtype == "float32")
    asked: dict[str, Any] = {
        "device": "cpu",
        "source": "sd3",
        "views": 4,
        "resolution": 512,
        "load": load,
        **options,
    }
    try:
        check_room(job, **asked)
    except UserError as error:
        return str(error)
    return ""


def test_the_cpus_memory_is_checked_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfgs.priors.fit.distillation_dtype", lambda device: None)
    assert room(None, Loading(), monkeypatch) == "" == room(24, Loading(), monkeypatch)
    wants = "--backend sd3: wants about 22 GiB of this machine's memory, and"
    assert room(20, Loading(), monkeypatch) == f"{wants} 20 are free; use --dtype bfloat16"
    assert room(20, Loading(dtype="bfloat16"), monkeypatch) == ""
    assert room(8, Loading(), monkeypatch) == f"{wants} 8 are free; use --dtype bfloat16 --t5 drop"
    assert room(2, Loading(), monkeypatch).endswith("end what else uses it, or use --backend tiny-sd3")
    offloaded = Loading(offload=True)
    assert room(20, offloaded, monkeypatch, device="cuda") == ""
    assert room(8, offloaded, monkeypatch, device="cuda").endswith("use --t5 drop")


def test_a_folder_is_checked_as_a_backend_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the GPU, whose memory is that of a small card, and for pictures."""
    known = replace(memory.FOOTPRINTS["sd3"], network=9_000_000_000)
    monkeypatch.setattr("rfgs.models.weighing.footprint", lambda source: known)
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("a card", 16 << 30)])
    said = room(None, Loading(), monkeypatch, device="cuda", source=str(tmp_path))
    assert said.startswith(f"--model {tmp_path}: 4 views of 512 pixels: wants about ")
    job = InvertJob("photo.png", "a cube", device="cuda", model=str(tmp_path))
    with pytest.raises(UserError, match=f"--model {tmp_path}: an image of 512 pixels: wants about") as raised:
        check_photo_job(job, job.model, "cuda")
    # The commands for photographs have no number of views to lower.
    assert str(raised.value).endswith(", or --offload, which is much slower")
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("a card", 24 << 30)])
    check_photo_job(job, job.model, "cuda")
