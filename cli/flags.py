"""Types of flags whose default is decided later, with help and errors that a person can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from rfgs.job import BIG_QUALITIES, QUALITIES, Quality, QualityName


def _optional(parse: Callable[[str], Any], metavar: str, kind: str) -> PrimitiveConstructorSpec:
    """A flag with one value or none at all; tyro on its own would offer the word None as a value."""

    def from_text(words: list[str]) -> Any:
        try:
            return parse(words[0])
        except ValueError as error:
            raise ValueError(f"{words[0]!r} is not {kind}") from error

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=from_text,
        is_instance=lambda value: value is None or isinstance(value, (int, float, str, Path)),
        str_from_instance=lambda value: [str(value)],
    )


WholeNumber = Annotated[int | None, _optional(int, "N", "a whole number")]
Number = Annotated[float | None, _optional(float, "X", "a number")]
Folder = Annotated[Path | None, _optional(Path, "FOLDER", "a folder")]
Text = Annotated[str | None, _optional(str, "TEXT", "text")]


def default(hint: str) -> Any:
    """Says in the help what a flag that is not given stands for."""
    return arg(help_behavior_hint=f"(default: {hint})")


AnyWords = Annotated[bool, arg(name="any-words")]
"""Whether a prompt may name things that the model has never seen."""


def by_quality(field: str) -> str:
    """A field's values in the presets, such as "120 draft, 300 normal, 800 high"."""

    def values(qualities: dict[QualityName, Quality]) -> str:
        return ", ".join(f"{getattr(quality, field)} {name}" for name, quality in qualities.items())

    return f"{values(QUALITIES)}; with big models {values(BIG_QUALITIES)}"


@dataclass(frozen=True)
class MethodFlags:
    """Details of the guidance. Each is for some guidances only, and refused with the others."""

    inner_steps: Annotated[WholeNumber, default("1")] = None
    """rfds-rev: steps that look for the noise of each view; every one costs an evaluation of the model."""
    inner_step_size: Annotated[Number, default("1")] = None
    """rfds-rev: size of these steps, in units of the share of the image that is not noise; with adam, its learning
    rate."""
    inner_optimiser: Literal["gradient", "adam"] = "gradient"
    """rfds-rev: how these steps are taken."""
    renormalise_noise: bool = False
    """rfds-rev: bring the noise that was found back to mean 0 and variance 1."""
    lora_rank: Annotated[WholeNumber, default("4")] = None
    """vsd, rfds-vsd: rank of the LoRA that learns what the views look like."""
    lora_steps: Annotated[WholeNumber, default("1")] = None
    """vsd, rfds-vsd: its training steps in each step of the run."""
    lr_lora: Annotated[Number, default("what suits the model")] = None
    """vsd, rfds-vsd: its learning rate."""


@dataclass(frozen=True)
class LoadFlags:
    """How a big model is loaded: for cards that are small, and for runs that are long."""

    t5: Literal["keep", "8bit", "drop"] = "keep"
    """sd3, sd35, flux: what becomes of T5, the largest of their text encoders. drop leaves it out (not with flux), which
    saves 9.5 GB to download and load; long prompts are then read less closely. 8bit halves it with bitsandbytes."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision of the network; auto takes half precision for big models on a GPU, bfloat16 to optimise on a CPU that
    computes in it, and float32 elsewhere."""
    offload: bool = False
    """Leave the weights in the CPU's memory, and bring them to the GPU layer by layer: for models that do not fit, and
    much slower."""
    compile: bool = False
    """Compile the network with torch.compile: faster steps, after some minutes at the first ones."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What evaluates the network on a CPU where no gradient is wanted; auto takes OpenVINO where it is installed."""


Loads = Annotated[LoadFlags, arg(name="")]
"""`LoadFlags` in the same way as `Details`."""
Details = Annotated[MethodFlags, arg(name="")]
"""`MethodFlags` as a group of a command's flags, without a prefix."""
