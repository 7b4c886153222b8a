"""Whether a folder in diffusers' layout is a whole model: every part there, no file cut short. Reads headers only.

A download that was broken off, or a copy without its large files, is told in milliseconds and not after minutes of
loading; no torch and no diffusers here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from rfgs.models.about import INDEX

# What pipelines list and distillation never loads, and what a model may do without: SD3 runs without its T5.
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
_OPTIONAL = ("text_encoder_3", "tokenizer_3")


def missing(folder: Path) -> str | None:
    """What the model in `folder` lacks, in words, such as "unet/ holds no weights"; None if it is whole."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        parts = [
            name for name, kind in index.items() if isinstance(kind, list) and kind and kind[0] is not None
        ]
    except (OSError, ValueError, AttributeError):
        return f"{INDEX} cannot be read"
    return next(_problems(folder, [part for part in parts if part not in _UNUSED]), None)


def _problems(folder: Path, parts: list[str]) -> Iterator[str]:
    for part in parts:
        place = folder / part
        if not place.is_dir():
            if part not in _OPTIONAL:
                yield f"the part {part}/ is missing"
        elif part == "scheduler":
            if not (place / "scheduler_config.json").is_file():
                yield "scheduler/scheduler_config.json is missing"
        elif part.startswith("tokenizer"):
            if not any(place.iterdir()):
                yield f"{part}/ is empty"
        else:
            yield from _weights(place)


def _weights(place: Path) -> Iterator[str]:
    if not (place / "config.json").is_file():
        yield f"{place.name}/config.json is missing"
    # Large models come in pieces, with an index that lists them.
    for index in place.glob("*.index.json"):
        try:
            pieces = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            yield f"{place.name}/{index.name} cannot be read"
            continue
        # A second index may list another precision or format, of which nothing was downloaded.
        there = [piece for piece in pieces if (place / piece).exists()]
        if there and len(there) < len(pieces):
            yield f"{place.name}/{min(pieces - set(there))} is missing"
    files = [*place.glob("*.safetensors"), *place.glob("*.bin")]
    if not files:
        yield f"{place.name}/ holds no weights"
    for file in files:
        if file.suffix == ".safetensors":
            wanted, size = _length(file), file.stat().st_size
            if wanted is None:
                yield f"{place.name}/{file.name} is no file of weights (a placeholder of Git LFS?)"
            elif size < wanted:
                yield f"{place.name}/{file.name} is cut short ({size} of {wanted} bytes)"


def _length(file: Path) -> int | None:
    """How many bytes a file of safetensors has to have by its own header; None if it has no such header."""
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            return None
        header = struct.unpack("<Q", start)[0]
        if header > 100_000_000:  # As safetensors' own limit.
            return None
        text = stream.read(header)
    if len(text) < header:
        return 8 + header
    try:
        tensors = json.loads(text)
        return (
            8
            + header
            + max((v["data_offsets"][1] for k, v in tensors.items() if k != "__metadata__"), default=0)
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
