"""The parts of a model in diffusers' layout: one subfolder each, loaded one by one.

Importing a whole pipeline class costs seconds and brings what distillation never uses (safety checkers, image
processors), so the adapters load parts and compute what the pipeline computes; tests compare the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rfgs.errors import UserError


def load_module(kind: Any, source: str, part: str, *, device: torch.device, dtype: torch.dtype) -> Any:
    """A part with weights, of class `kind`, from a folder or hub id: on `device`, in evaluation mode, frozen."""
    module = kind.from_pretrained(source, subfolder=part, torch_dtype=dtype, **_variant(Path(source) / part))
    return module.to(device).eval().requires_grad_(False)


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


def about(source: str) -> dict[str, Any]:
    """What our own small models say of themselves in `rfgs.json` (family, vocabulary); empty for all others."""
    path = Path(source) / "rfgs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def vocabulary(about: dict[str, Any]) -> frozenset[str] | None:
    """The words that a model was trained on, where it says so."""
    words = about.get("vocabulary")
    return None if words is None else frozenset(words)


@contextmanager
def whole_model(name: str, family: str) -> Iterator[None]:
    """Tells a part that is missing, cut short or of another shape as the user's problem, with the remedy."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: not a whole {family} model ({reason}); download it again") from error
