"""Whether a model is a rectified flow or a diffusion model, told before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from rfgs.models import catalogue

Kind = Literal["flow", "diffusion"]


def kind_of(source: str) -> Kind | None:
    """Whether a model is a rectified flow or a diffusion model, by its name or its files; None where neither tells."""
    place = catalogue.locate(source)
    family = place.family
    if family is None:
        folder = Path(place.source).expanduser()
        pipeline = _read(folder / "model_index.json").get("_class_name")
        if pipeline is None:
            return None
        known = "sd" if pipeline == "StableDiffusionPipeline" else "flow"
        family = _read(folder / "rfgs.json").get("family", known)
    return "diffusion" if family == "sd" else "flow"


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
