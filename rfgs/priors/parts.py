"""The parts of a model in diffusers' layout: one subfolder each, loaded one by one.

Importing a whole pipeline class costs seconds and brings what distillation never uses (safety checkers, image
processors), so the adapters load parts and compute what the pipeline computes; tests compare the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from rfgs.errors import UserError


@dataclass(frozen=True)
class Setup:
    """Where and how a model's parts are to be."""

    device: torch.device
    """Where they compute."""
    dtype: torch.dtype = torch.float32
    """Precision of the network and the text encoders."""
    t5: Literal["keep", "8bit", "drop"] = "keep"
    """T5 as the others, in 8-bit integers by bitsandbytes, or not at all."""
    offload: bool = False
    """Weights stay in the CPU's memory, and each layer's come to the device when it computes."""

    @property
    def home(self) -> torch.device:
        """Where weights are put when they are loaded."""
        return torch.device("cpu") if self.offload else self.device


def load_module(
    kind: Any, source: str, part: str, *, device: torch.device | None, dtype: torch.dtype, **options: Any
) -> Any:
    """A part with weights, of class `kind`, from a folder or hub id: on `device`, in evaluation mode, frozen.

    `options` go to diffusers' or transformers' `from_pretrained`; with device None they say where the part is to be.
    """
    options |= _variant(Path(source) / part)
    module = kind.from_pretrained(source, subfolder=part, torch_dtype=dtype, **options)
    return (module if device is None else module.to(device)).eval().requires_grad_(False)


def offload(module: Any, device: torch.device) -> Any:
    """Leave a module's weights in the CPU's memory, and bring each layer's to `device` when it computes.

    Gradients go through it to its inputs. Its parameters look empty (on the meta device) from then on.
    """
    from accelerate import cpu_offload

    return cpu_offload(module, device)


def _variant(place: Path) -> dict[str, str]:
    """Folders that were saved in half precision only may say so in the names of their files."""
    files = {file.name for file in place.glob("*.safetensors")}
    half = {name for name in files if ".fp16." in name}
    return {"variant": "fp16"} if half and half == files else {}


def read_json(source: str, file: str) -> dict[str, Any]:
    """A JSON file of a folder or hub id, such as "scheduler/scheduler_config.json".

    Raises:
        OSError: there is none, or the hub is out of reach.
    """
    path = Path(source) / file
    if not Path(source).is_dir():
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(source, file))
    return json.loads(path.read_text(encoding="utf-8"))


def revision(source: str) -> str:
    """Which version of a model this is: the commit of a hub id; for a folder, what its text parts look like from outside."""
    if Path(source).is_dir():
        files = sorted(file for file in Path(source).glob("t*/*") if file.is_file())
        return "\n".join(f"{f.relative_to(source)} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "model_index.json")
    return Path(found).parent.name if isinstance(found, str) else ""


@contextmanager
def whole_model(name: str, family: str) -> Iterator[None]:
    """Tells a part that is missing, cut short, of another shape or too large as the user's problem, with the remedy."""
    from safetensors import SafetensorError

    try:
        with enough_memory(name):
            yield
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: not a whole {family} model ({reason}); download it again") from error


@contextmanager
def enough_memory(name: str) -> Iterator[None]:
    """Tells a model that the GPU has no room for, while it is loaded, as the user's problem, with the remedies."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            f"{name}: the GPU's memory does not suffice to load it; end what else uses the GPU, keep the weights in the "
            "CPU's memory with --offload, leave T5 out or make it smaller with --t5 drop or --t5 8bit, or take a smaller "
            "--backend (`rfgs doctor` says what fits)"
        ) from error
