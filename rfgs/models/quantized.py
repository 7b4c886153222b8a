"""Weights that were quantized before they were saved: which library reads them, told before they are loaded. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rfgs.errors import UserError
from rfgs.models import machine

INSTALL_NF4 = "install it with `pip install 'rfgs[nf4]'`"
_LIBRARIES = {
    "bitsandbytes": ("bitsandbytes", INSTALL_NF4),
    "torchao": ("torchao", "install it with `pip install torchao`"),
    "quanto": ("optimum-quanto", "install it with `pip install optimum-quanto`"),
}
"""What reads weights, by the name of the method in their configuration."""


def methods(folder: Path) -> Iterator[tuple[str, str]]:
    """The quantized parts of a model in diffusers' layout, each with the name of the method."""
    for file in sorted(folder.glob("*/config.json")):
        try:
            said = json.loads(file.read_text(encoding="utf-8")).get("quantization_config")
        except (OSError, ValueError, AttributeError):
            continue  # Whoever loads it will tell.
        if isinstance(said, dict):
            four = said.get("load_in_4bit") or said.get("load_in_8bit")
            yield file.parent.name, str(said.get("quant_method") or ("bitsandbytes" if four else "unknown"))


def check_methods(name: str, folder: Path, device: Literal["cpu", "cuda"] | str) -> None:
    """That what reads the quantized parts of a model is installed, and computes on the device.

    Raises:
        UserError: it is not, or does not.
    """
    for part, method in methods(folder):
        library, install = _LIBRARIES.get(method, (None, ""))
        if library and machine.version(library) is None:
            raise UserError(
                f"{name}: its {part} is quantized by {library}, which is not installed; {install}, or take weights that are "
                "not quantized"
            )
        if library == "bitsandbytes" and device == "cpu":
            raise UserError(
                f"{name}: its {part} is quantized by bitsandbytes, which computes on an NVIDIA GPU, and this run is on the "
                "CPU; take a GGUF, or weights that are not quantized"
            )


def check_nf4(device: Literal["cpu", "cuda"] | str) -> None:
    """That bitsandbytes can quantize a network here.

    Raises:
        UserError: it cannot.
    """
    if device == "cpu":
        raise UserError(
            "--quantize nf4: bitsandbytes computes on an NVIDIA GPU, and this run is on the CPU; leave it out, or give a "
            "GGUF with --model FILE"
        )
    if machine.version("bitsandbytes") is None:
        raise UserError(
            f"--quantize nf4: bitsandbytes is not installed; {INSTALL_NF4}, or give a GGUF with --model FILE"
        )
