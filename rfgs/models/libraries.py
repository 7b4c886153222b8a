"""What a model's files want installed beside rfgs: what reads quantized weights, and old vocabularies. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.models.about import read_object

INSTALL_NF4 = "install it with `pip install 'rfgs[nf4]'`"
_LIBRARIES = {
    "bitsandbytes": ("bitsandbytes", INSTALL_NF4),
    "torchao": ("torchao", "install it with `pip install torchao`"),
    "quanto": ("optimum-quanto", "install it with `pip install optimum-quanto`"),
}
"""What reads weights, by the name of the method in their configuration."""


def quantized_parts(folder: Path) -> Iterator[tuple[str, str]]:
    """The parts of a model in diffusers' layout that were quantized before they were saved, each with the method's name."""
    for file in sorted(folder.glob("*/config.json")):
        said = (read_object(file) or {}).get("quantization_config")  # Whoever loads it will tell.
        if isinstance(said, dict):
            bits = said.get("load_in_4bit") or said.get("load_in_8bit")
            yield file.parent.name, str(said.get("quant_method") or ("bitsandbytes" if bits else "unknown"))


def check_libraries(name: str, folder: Path, device: str, *, t5: bool = True) -> None:
    """That what reads the parts of a model is installed, and computes on the device ("cpu" or another).

    Args:
        t5: whether T5 is loaded where a model can do without it.

    Raises:
        UserError: it is not, or does not.
    """
    for part, method in quantized_parts(folder):
        library, install = _LIBRARIES.get(method, (None, ""))
        if library is None or (part == "text_encoder_3" and not t5):
            continue
        if machine.version(library) is None:
            raise UserError(
                f"{name}: its {part} is quantized by {library}, which is not installed; {install}, or take weights that are "
                "not quantized"
            )
        if library == "bitsandbytes" and device == "cpu":
            raise UserError(
                f"{name}: its {part} is quantized by bitsandbytes, which computes on an NVIDIA GPU, and this run is on the "
                "CPU; take a GGUF, or weights that are not quantized"
            )
    for file in sorted(folder.glob("tokenizer*/spiece.model")):
        part = file.parent.name
        if (file.parent / "tokenizer.json").exists() or (part == "tokenizer_3" and not t5):
            continue
        gone = [library for library in ("sentencepiece", "protobuf") if machine.version(library) is None]
        if gone:
            raise UserError(
                f"{name}: its {part} has its words in spiece.model, which {' and '.join(gone)} would read and "
                f"{'is' if len(gone) == 1 else 'are'} not installed; install them with `pip install 'rfgs[sd3]'`"
            )


def check_nf4(device: str) -> None:
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
