"""Text-to-image models behind one protocol: `load_prior("tiny-sd3")`, or a folder or hub id in diffusers' layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from rfgs.errors import UserError
from rfgs.priors.base import (
    Condition,
    DiffusionPrior,
    Prior,
    TextToImage,
    Trainable,
    guided_epsilon,
    guided_velocity,
    unknown_words,
)

__all__ = [
    "Condition",
    "DiffusionPrior",
    "Prior",
    "TextToImage",
    "Trainable",
    "guided_epsilon",
    "guided_velocity",
    "load_prior",
    "unknown_words",
]


def load_prior(
    name_or_folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Prior:
    """Load a prior.

    Args:
        name_or_folder: "tiny-sd3" (part of the package), a folder in diffusers' layout, or a hub id ("owner/name").
        dtype: of the network's weights; None takes float32 on the CPU and float16 on CUDA.

    Raises:
        UserError: nothing there, or a pipeline class that has no adapter.
    """
    from rfgs.backends import BACKENDS, embedded_folder

    embedded = next((b for b in BACKENDS if b.name == str(name_or_folder) and b.hub_id is None), None)
    known = next((b for b in BACKENDS if b.name == str(name_or_folder) and b.hub_id), None)
    source = embedded_folder(embedded) if embedded else known.hub_id if known else str(name_or_folder)
    pipeline = _pipeline_class(str(source))
    if pipeline != "StableDiffusion3Pipeline":
        raise UserError(
            f"{name_or_folder}: is a {pipeline}, which has no adapter yet; give a StableDiffusion3Pipeline folder or hub id"
        )
    from rfgs.priors.sd3 import SD3Prior

    device = torch.device(device)
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.float16
    return SD3Prior.load(str(source), name=str(name_or_folder), device=device, dtype=dtype)


def _pipeline_class(source: str) -> str:
    index = Path(source) / "model_index.json"
    if not index.is_file():
        from huggingface_hub import hf_hub_download

        index = Path(hf_hub_download(source, "model_index.json"))
    return json.loads(index.read_text(encoding="utf-8")).get("_class_name", "an unknown kind of model")
