"""Which files of a model in diffusers' layout are loaded, and whether a folder has them, whole. Reads headers only.

The same rules say what is fetched from a hub's listing, what a folder lacks, and what the loader opens, so that the three
cannot differ. A download that was broken off is told in milliseconds; no torch and no diffusers here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfgs.models.about import INDEX, OWN, read_object
from rfgs.models.weight_files import damage

# What pipelines list and distillation never loads, and what a model may do without: SD3 runs without its T5.
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
_OPTIONAL = ("text_encoder_3", "tokenizer_3")
_FILE = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[\w-]+?))?"
    r"(?:-\d{5}-of-(?P<count>\d{5})(?:\.(?P<behind>[\w-]+))?)?\.(?P<suffix>safetensors|bin)"
)
_LIST = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)\.(?P<suffix>safetensors|bin)\.index(?:\.(?P<variant>[\w-]+))?\.json"
)
_NAME = re.compile(r"[\w.-]{1,120}")
"""Of a part or a file; anything else in a list is no name that a model's files have."""
_CHAT = "chat_template.jinja"
"""How a prompt is put to a language model that reads it, in the folder of its tokenizer."""
_VARIANTS = ("", "fp16", "bf16")
"""Kinds of files that hold the same weights, the one that is taken first first."""


@dataclass(frozen=True)
class Weights:
    """One set of files that hold all weights of a part."""

    variant: str | None
    """What the names say beside the usual, such as "fp16"."""
    safetensors: bool
    """Or else pickled."""
    files: tuple[str, ...]
    """Names within the part, the list of the pieces among them."""
    lacks: tuple[str, ...] = ()
    """Those that are not there."""


def weight_sets(names: Collection[str], place: Path | None = None) -> list[Weights]:
    """The sets of weights among the names of a part's files: whole ones first, then safetensors, then the usual names.

    Args:
        place: where the part is, so that its own lists of pieces are read; None goes by the names alone.
    """
    pieces: dict[tuple[str, str, str], dict[str, int]] = {}
    lists: dict[tuple[str, str, str], str] = {}
    for name in sorted(names):
        if found := _FILE.fullmatch(name):
            key = (found[1], found["suffix"], found["variant"] or found["behind"] or "")
            pieces.setdefault(key, {})[name] = int(found["count"] or 0)
        elif found := _LIST.fullmatch(name):
            lists[found[1], found["suffix"], found["variant"] or ""] = name
    return sorted(
        (_set(key, pieces.get(key, {}), lists.get(key), place) for key in pieces.keys() | lists.keys()),
        key=lambda one: (
            bool(one.lacks),
            not one.safetensors,
            _VARIANTS.index(one.variant or "") if (one.variant or "") in _VARIANTS else len(_VARIANTS),
            one.files,
        ),
    )


def _set(
    key: tuple[str, str, str], counts: dict[str, int], listed: str | None, place: Path | None
) -> Weights:
    stem, suffix, variant = key
    single = [name for name, count in counts.items() if not count]
    # Where there are both, transformers opens the single file and diffusers the pieces.
    if single and not (listed and stem == "diffusion_pytorch_model"):
        return Weights(variant or None, suffix == "safetensors", (single[0],))
    there = sorted(name for name, count in counts.items() if count)
    known = _pieces(place / listed) if place and listed else None
    if known is None:
        count = max((counts[name] for name in there), default=1)
        gone = [f"one of the {count} pieces"] * (len(there) < count)
        known = there
    else:
        # A list may name its pieces in ways of its own.
        gone = [piece for piece in known if not (place and (place / piece).is_file())]
    if listed is None:
        listed = ".".join([stem, suffix, "index", *([variant] if variant else []), "json"])
        gone = [listed, *gone]
    return Weights(variant or None, suffix == "safetensors", (listed, *known), tuple(gone))


def _pieces(listed: Path) -> list[str] | None:
    content = read_object(listed)
    names = content.get("weight_map") if content else None
    if not isinstance(names, dict) or not names:
        return None
    pieces = {str(name) for name in names.values()}
    return sorted(pieces) if all(_NAME.fullmatch(piece) for piece in pieces) else None


def weights(place: Path) -> Weights | None:
    """The set that is loaded from the folder of a part; None where none is whole."""
    found = weight_sets(_names(place), place)
    return found[0] if found and not found[0].lacks else None


def wanted(
    index: dict[str, Any],
    listing: Collection[str],
    *,
    t5: bool,
    only: Collection[str],
    bare: Collection[str] = (),
) -> list[str]:
    """The files to fetch, of those that a hub lists.

    Args:
        index: the content of model_index.json.
        t5, only, bare: see `missing`.
    """
    chosen = [INDEX, OWN]
    for part in parts_of(index, t5=t5, only=only):
        names = [name.removeprefix(f"{part}/") for name in listing if name.startswith(f"{part}/")]
        if part == "scheduler" or part.startswith("tokenizer"):
            mine = [name for name in names if name.endswith((".json", ".txt", ".model", ".jinja"))]
        else:
            sets = [] if part in bare else weight_sets(names)[:1]
            mine = ["config.json", *[file for one in sets for file in one.files]]
        chosen += [f"{part}/{name}" for name in mine]
    return [name for name in chosen if name in listing]


def parts_of(index: dict[str, Any], *, t5: bool = True, only: Collection[str] = ()) -> list[str]:
    """The parts that are loaded of a model with this model_index.json."""
    if only:
        return list(only)
    listed = [
        name
        for name, kind in index.items()
        if isinstance(kind, list) and kind and kind[0] is not None and _NAME.fullmatch(name)
    ]
    return [part for part in listed if part not in _UNUSED and (t5 or part not in _OPTIONAL)]


def missing(
    folder: Path,
    *,
    t5: bool = True,
    only: Collection[str] = (),
    bare: Collection[str] = (),
    strict: bool = False,
) -> str | None:
    """What the model in `folder` lacks, in words, such as "unet/ holds no weights"; None if it is whole.

    Args:
        t5: whether T5 is loaded where a model can do without it.
        only: the parts that are loaded; none stands for all of model_index.json.
        bare: parts whose weights come from elsewhere, so that their configuration is enough.
        strict: T5 has to be there if the model lists it: of a download that is not to be resumed.
    """
    index = {} if only else read_object(folder / INDEX)
    if index is None:
        return f"{INDEX} cannot be read" if (folder / INDEX).is_file() else f"{INDEX} is missing"
    parts = parts_of(index, t5=t5, only=only)
    if not strict and not (folder / "text_encoder_3").is_dir():
        parts = [part for part in parts if part not in _OPTIONAL]
    try:
        return next(
            (problem for part in parts for problem in _problems(folder / part, index, part in bare)), None
        )
    except OSError as error:  # Of another user, or on a disk that fails.
        return f"{error.filename} cannot be read ({(error.strerror or str(error)).lower()})"


def _problems(place: Path, index: dict[str, Any], bare: bool = False) -> Iterator[str]:
    part = place.name
    if not place.is_dir():
        yield f"the part {part}/ is missing"
        return
    if bare:
        yield from _config(place / "config.json")
        return
    # The hub's cache is made of links, and copies of it may point nowhere.
    for file in sorted(place.iterdir()):
        if file.is_symlink() and not file.exists():
            yield f"{part}/{file.name} is a link to a file that is gone"
    if part == "scheduler":
        yield from _config(place / "scheduler_config.json")
    elif part.startswith("tokenizer"):
        yield from _tokenizer(place, str(index.get(part)))
    else:
        yield from _config(place / "config.json")
        yield from _weights(place)


def _config(file: Path) -> Iterator[str]:
    if not file.is_file():
        yield f"{file.parent.name}/{file.name} is missing"
    elif read_object(file) is None:
        yield f"{file.parent.name}/{file.name} cannot be read"


def _tokenizer(place: Path, kind: str) -> Iterator[str]:
    """Without its vocabulary a tokenizer loads all the same, and knows no word."""
    names = _names(place)
    if not names:
        yield f"{place.name}/ is empty"
    yield from _config(place / "tokenizer_config.json")
    if "tokenizer.json" in names:
        yield from _config(place / "tokenizer.json")
    elif "spiece.model" not in names:
        if "T5" in kind:
            yield f"{place.name}/tokenizer.json is missing, and spiece.model too"
        for name in ("vocab.json", "merges.txt"):
            if name not in names:
                yield f"{place.name}/{name} is missing"
    # Older versions of transformers wrote the form of a chat into the configuration.
    configured = (read_object(place / "tokenizer_config.json") or {}).get("chat_template")
    if "Qwen" in kind and not configured and _CHAT not in names:
        yield f"{place.name}/{_CHAT} is missing"


def _weights(place: Path) -> Iterator[str]:
    names = _names(place)
    sets = weight_sets(names, place)
    if not sets:
        yield f"{place.name}/ holds no weights"
        return
    for name in names:
        # Without its list, nobody knows what the pieces are.
        if _LIST.fullmatch(name) and _pieces(place / name) is None and name in sets[0].files:
            yield f"{place.name}/{name} cannot be read"
    if sets[0].lacks:
        begun = max(sets, key=lambda one: len(set(one.files) & names))
        yield f"{place.name}/{begun.lacks[0]} is missing"
        return
    for name in sets[0].files:
        problem = damage(place / name)
        if problem:
            yield f"{place.name}/{name} {problem}"


def _names(place: Path) -> set[str]:
    return {file.name for file in place.iterdir() if file.is_file()} if place.is_dir() else set()
