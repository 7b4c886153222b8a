"""What a model's own files weigh, told from their headers: of a folder that no table knows, and for the lines of a start.

No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rfgs.models import catalog, single_file
from rfgs.models.about import INDEX, read_object
from rfgs.models.kind import family_of
from rfgs.models.layout import parts_of, weights
from rfgs.models.memory import FOOTPRINTS, Footprint
from rfgs.models.single_file import SingleFile
from rfgs.models.weight_files import header

HALF = 2
"""Bytes of a number in half precision."""
LARGE_TEXT = 1_000_000_000
"""Numbers from which a text encoder is planned for as T5 is."""
_FLOATS = {"F64", "F32", "F16", "BF16"}


def footprint(source: str) -> Footprint | None:
    """What the parts of a model take (`source` as `rfgs.models.catalog.locate` takes it): a backend's, a file's, or a folder's.

    Of a single file its network is counted, and the rest is its backend's. Of a folder, and of what is in the hub's cache,
    the weights are counted; the rest is that of the nearest backend of its family. None where nothing is known, as of a hub
    id that was never downloaded.
    """
    file = single_file.find(source)
    if file:
        network = file.size // HALF if file.quantized else file.parameters
        return replace(FOOTPRINTS[file.backend], network=network)
    name = catalog.name_of(source)
    if name in FOOTPRINTS:
        return FOOTPRINTS[name]
    folder, family = catalog.locate(source).folder(), family_of(source)
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


def parts(folder: Path, *, t5: bool = True, file: SingleFile | None = None) -> list[str]:
    """The parts with weights that are loaded of the model in `folder`, or of the single `file` in their place."""
    inside = file.parts if file else ()
    names = parts_of(read_object(folder / INDEX) or {}, t5=t5)
    return [name for name in names if name in inside or weights(folder / name)]


def size(folder: Path, names: Iterable[str], file: SingleFile | None = None) -> int:
    """Bytes of the weights that are read of these parts; `file`: see `parts`."""
    inside = file.parts if file else {}
    own = sum(one.stat().st_size for name in names if name not in inside for one in _files(folder / name))
    return own + sum(_weigh(file, name)[1] for name in names if file and name in inside)


def numbers(part: Path, file: SingleFile | None = None) -> int:
    """How many numbers a part's weights are; quantized ones count as many as take their room in half precision.

    0 where there are none. Files that have no header to read, as pickles, are taken to be in half precision. `file`: see
    `parts`.
    """
    if file and part.name in file.parts:
        return _weigh(file, part.name)[0]
    return sum(_numbers(one) for one in _files(part))


def _files(part: Path) -> list[Path]:
    found = weights(part)
    names = found.files if found else ()
    return [part / name for name in names if not name.endswith(".json")]


def _weigh(file: SingleFile, part: str) -> tuple[int, int]:
    """How many numbers a part is in a single file, and how many bytes."""
    if part == single_file.NETWORK:
        return file.size // HALF if file.quantized else file.parameters, file.size
    inside = [one for name, one in _tensors(file.path).items() if name.startswith(file.parts[part])]
    return sum(count for count, _ in inside), sum(size for _, size in inside)


def _numbers(file: Path) -> int:
    found = _tensors(file) if file.suffix == ".safetensors" else {}
    return sum(count for count, _ in found.values()) or file.stat().st_size // HALF


def _tensors(file: Path) -> dict[str, tuple[int, int]]:
    """Numbers and bytes of each tensor in a file of safetensors; nothing where its header is damaged, which loading tells."""
    found = {}
    try:
        for name, tensor in (header(file) or {}).items():
            begin, end = tensor["data_offsets"]
            plain = tensor["dtype"] in _FLOATS
            found[name] = (math.prod(tensor["shape"]) if plain else (end - begin) // HALF, end - begin)
    except (OSError, TypeError, KeyError, ValueError):
        return {}
    return found
