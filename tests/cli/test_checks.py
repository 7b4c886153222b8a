"""What is refused before any work because the GPU's memory would not suffice."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from rfgs.cli.checks import check_memory
from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.models.machine import Gpu
from rfgs.models.memory import Load


@pytest.mark.parametrize(
    ("backend", "gib", "views", "resolution", "remedy"),
    [
        ("sd3", 8, 16, 512, "use --views-per-step 8"),
        ("sd35-medium", 8, 4, 1024, "use --resolution 512 --views-per-step 1"),
        (
            "sd35-large",
            12,
            4,
            512,
            "use --backend sd3, or --offload --views-per-step 1, which is much slower",
        ),
        (
            "sd3",
            2,
            1,
            256,
            "use --backend tiny-sd3, or --offload --views-per-step 1, which is much slower",
        ),
        ("sd3", 1, 1, 256, "use --backend tiny-sd3"),
    ],
)
def test_too_little_memory(
    backend: str, gib: int, views: int, resolution: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [Gpu("a card", gib << 30)])
    with pytest.raises(UserError) as raised:
        check_memory(backend, "cuda", views=views, resolution=resolution)
    message = str(raised.value)
    assert message.startswith(
        f"--backend {backend}: {views} view{'s' * (views > 1)} of {resolution} pixels: wants about "
    )
    assert f"GiB of GPU memory and a card has {gib}; " in message and message.endswith(remedy)


def test_enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [Gpu("a card", 8 << 30)])
    check_memory("sd3", "cuda", views=4)
    check_memory("somebody/elses-model", "cuda", views=400)
    check_memory("tiny-sd3", "cuda", views=4)
    check_memory("flux-dev", "cpu", views=4)
    # Without its weights the largest fits.
    check_memory("flux-dev", "cuda", views=1, load=Load(offload=True))
    # A file of four bits a weight.
    check_memory("flux-dev", "cuda", views=1, load=Load(weights=5 << 29))


def test_what_takes_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A LoRA, or a network in float32, where four views in half precision just fit."""
    monkeypatch.setattr(machine, "gpus", lambda: [Gpu("a card", 17 << 29)])
    check_memory("sd35-medium", "cuda", views=4)
    for more in (Load(lora_rank=4), Load(full=True), Load(weights=6 << 30)):
        with pytest.raises(UserError, match="--backend sd35-medium: 4 views of 512 pixels: wants about"):
            check_memory("sd35-medium", "cuda", views=4, load=more)


def test_quantized_weights_cannot_be_offloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [Gpu("a card", 4 << 30)])
    for load, said in ((Load(), True), (Load(weights=6 << 30), False)):
        with pytest.raises(UserError) as raised:
            check_memory("sd3", "cuda", views=1, load=load)
        assert ("--offload" in str(raised.value)) == said


def test_a_file_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the header of a FLUX of which nothing else is there."""
    monkeypatch.setattr(machine, "gpus", lambda: [Gpu("a card", 8 << 30)])
    tensors = {"img_in.weight": [3072, 64], "double_blocks.0.x": [100_000, 100_000]}
    file, header, place = tmp_path / "my.safetensors", {}, 0
    for name, shape in tensors.items():
        end = place + 2 * shape[0] * shape[1]
        header[name], place = {"dtype": "BF16", "shape": shape, "data_offsets": [place, end]}, end
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + place)  # No file of 20 GB: the rest of it is a hole.
    with pytest.raises(
        UserError, match=f"--model {re.escape(str(file))}: 1 view of 512 pixels: wants about 2"
    ):
        check_memory(str(file), "cuda", views=1)
