"""What a model's own files weigh, told from their headers: of a folder that no table knows, and for the lines of a start.

No torch here.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rfgs.models import catalog, snapshot
from rfgs.models.about import INDEX
from rfgs.models.kind import family_of
from rfgs.models.layout import parts_of, weights
from rfgs.models.memory import FOOTPRINTS, Footprint

HALF = 2
"""Bytes of a number in half precision."""
LARGE_TEXT = 1_000_000_000
"""Numbers from which a text encoder is planned for as T5 is."""
_FLOATS = {"F64", "F32", "F16", "BF16"}


def footprint(source: str) -> Footprint | None:
    """What the parts of a model take (`source` as `rfgs.models.catalog.locate` takes it): a backend's, or a folder's.

    Of a folder, and of what is in the hub's cache, the weights are counted; the rest is that of the nearest backend of its
    family. None where nothing is known, as of a hub id that was never downloaded.
    """
    name = catalog.name_of(source)
    if name in FOOTPRINTS:
        return FOOTPRINTS[name]
    folder, family = folder_of(source), family_of(source)
    relatives = [
        FOOTPRINTS[backend.name]
        for backend in catalog.BACKENDS
        if backend.family is family and backend.name in FOOTPRINTS
    ]
    if folder is None or not relatives:
        return None
    found = {part: numbers(folder / part) for part in parts(folder)}
    network = max((count for part, count in found.items() if part in ("transformer", "unet")), default=0)
    text = [count for part, count in found.items() if part.startswith("text_encoder")]
    if not network:
        return None
    nearest = min(relatives, key=lambda relative: abs(relative.network - network))
    large = sum(count for count in text if count > LARGE_TEXT)
    t5, qwen = (0, large) if nearest.qwen else (large, 0)
    return replace(nearest, network=network, clip=sum(text) - large, t5=t5, qwen=qwen)


def folder_of(source: str) -> Path | None:
    """Where a model's files are, if they are here. No network."""
    place = catalog.locate(source).source
    if Path(place).expanduser().is_dir():
        return Path(place).expanduser()
    return snapshot.cached(place) if snapshot.HUB_ID.fullmatch(place) else None


def parts(folder: Path, *, t5: bool = True) -> list[str]:
    """The parts with weights that are loaded of the model in `folder`."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    names = parts_of(index, t5=t5) if isinstance(index, dict) else []
    return [name for name in names if weights(folder / name)]


def size(folder: Path, names: Iterable[str]) -> int:
    """Bytes of the files of weights that are read of these parts."""
    return sum(file.stat().st_size for name in names for file in _files(folder / name))


def numbers(part: Path) -> int:
    """How many numbers a part's weights are; quantized ones count as many as take their room in half precision.

    0 where there are none. Pickled files, which have no header to read, are taken to be in half precision.
    """
    return sum(_numbers(file) for file in _files(part))


def _files(part: Path) -> list[Path]:
    found = weights(part)
    names = found.files if found else ()
    return [part / name for name in names if not name.endswith(".json")]


def _numbers(file: Path) -> int:
    if file.suffix != ".safetensors":
        return file.stat().st_size // HALF
    with file.open("rb") as stream:
        header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
    count = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        count += math.prod(tensor["shape"]) if tensor["dtype"] in _FLOATS else (end - begin) // HALF
    return count
