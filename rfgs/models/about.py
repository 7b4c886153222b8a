"""What a model in diffusers' layout says of itself, in the two small files at its top and its network's configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfgs.models.places import expanded

INDEX = "model_index.json"
"""The file that makes a folder a model in diffusers' layout."""
LARGEST = 256 << 20
"""Bytes of a JSON file; the vocabularies of tokenizers have some ten million."""
OWN = "rfgs.json"
"""The file beside it in which our own small models say more."""


@dataclass(frozen=True)
class About:
    """What a model's files say; nothing is said where there are none, or none that can be read."""

    pipeline: str | None = None
    """The class of diffusers that it was saved by, such as "StableDiffusion3Pipeline"."""
    family: str | None = None
    """The family's name, for a model whose pipeline would say another one."""
    vocabulary: frozenset[str] | None = None
    """The words that it was trained on, in lower case; None where any text makes sense."""
    max_sequence_length: int | None = None
    """Tokens that T5's place in the prompt has."""
    image_size: int | None = None
    """Width and height of its images, pixels."""
    distilled: bool = False
    """Whether it says that guidance was distilled into it; see `rfgs.models.distilled` for those that do not say."""

    @property
    def small(self) -> bool:
        """Whether it is one of the small models, which say which words they know; `rfgs.priors.base.is_small` once loaded."""
        return self.vocabulary is not None


def about(folder: str | Path) -> About:
    """What the model in `folder` says of itself. No network: a hub id says nothing here."""
    place = expanded(folder)
    own = _read(place / OWN)
    words = own.get("vocabulary")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        words = None
    index, network = _read(place / INDEX), _read(place / "transformer/config.json")
    return About(
        pipeline=_text(index.get("_class_name")),
        family=_text(own.get("family")),
        vocabulary=None if words is None else frozenset(word.lower() for word in words),
        max_sequence_length=whole_number(own.get("max_sequence_length"), least=0),  # tiny-sd3 has none.
        image_size=whole_number(own.get("image_size")),
        # FLUX.2 klein's pipeline says it itself; a network that takes the scale as an input was taught what it does.
        distilled=index.get("is_distilled") is True or network.get("guidance_embeds") is True,
    )


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file, or none that holds one."""
    try:
        return object_in(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except (OSError, ValueError):  # A name that no file can have is a ValueError.
        return None


def object_in(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object that somebody's text is; None where it is none, or no JSON, or nested without an end."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def whole_number(value: Any, least: int = 1, most: int = 1 << 20) -> int | None:
    """A count or a size out of somebody's file, if it is one: from `least` to `most`."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and least <= value <= most else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _read(path: Path) -> dict[str, Any]:
    return read_object(path) or {}  # Whoever loads it will tell what is wrong.
