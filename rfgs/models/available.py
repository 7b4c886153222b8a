"""Whether a model can be had here, before anything is loaded: what is on disk, what the hub says, whether it fits there.

No torch and no diffusers here: a missing model has to be told in a moment.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rfgs.errors import UserError
from rfgs.models import embedded, hub, memory, single_file, snapshot
from rfgs.models.about import INDEX, about
from rfgs.models.catalog import (
    BACKENDS,
    BASE,
    STYLED,
    Backend,
    Place,
    embedded_folder,
    families,
    no_adapter,
    parts_of_file,
    source_of,
    split,
)
from rfgs.models.layout import missing
from rfgs.models.places import expanded
from rfgs.models.single_file import SingleFile


def find_model(
    backend: Backend, model: str | None = None, *, t5: bool = True, parts: str | None = None
) -> str:
    """What to load, after a check that it is there and may be read.

    Args:
        backend: the family; its own weights are taken where `model` is None.
        model: a folder in diffusers' layout, a single file, or a hub id ("owner/name"); a folder wins where two could be
            meant.
        t5: whether T5 is loaded where a model can do without it.
        parts: a folder or hub id for what a single file lacks; see `parts_of_file`.

    Returns:
        As `rfgs.priors.load_prior` takes it: the name of a backend that is part of the package, a folder, a file, or a hub id.

    Raises:
        UserError: a folder or file that is missing or holds no model; a hub model that is absent, gated or out of reach.
    """
    return check_source(source_of(backend, model), t5=t5, parts=parts)


def check_source(source: str, *, t5: bool = True, parts: str | None = None) -> str:
    """`source` (as `locate` takes it) if it can be loaded, with T5 or without; UserError if not.

    `parts`: see `parts_of_file`.
    """
    if parts is not None and not single_file.is_file_name(split(source)[1]):
        raise UserError(
            f"--parts {parts}: is for what a single file lacks, and --model names none; leave it out"
        )
    backend = next((backend for backend in BACKENDS if backend.name == source), None)
    if backend and not backend.hub_id:
        folder, remedy = embedded_folder(backend), embedded.remedy(backend.name)
        if not folder.exists():
            raise UserError(f"--backend {source}: its files are not installed; {remedy}")
        _check_folder(folder, f"--backend {source}", remedy)
        return source
    if backend:
        for hub_id, only in _needs(backend):
            _check_hub_id(hub_id, t5=t5, only=only)
        return source
    prefix, place = split(source)
    folder = expanded(place)
    if single_file.is_file_name(place):
        if prefix:
            raise UserError(
                f"--model {place}: a model for --backend {prefix[:-1]} is read from a folder in diffusers' layout only"
            )
        return _check_file(place, parts, t5=t5)
    if folder.exists() or not snapshot.HUB_ID.fullmatch(place):
        remedy = f"give a folder in diffusers' layout (the one that holds {INDEX}) or a hub id (owner/name)"
        _check_folder(folder, f"--model {place}", remedy, t5=t5)
        pipeline = about(folder).pipeline
        if not prefix and pipeline and not any(pipeline in family.pipelines for family in families()):
            raise UserError(f"--model {place}: {no_adapter(pipeline)}")
        # Absolute, so that a run can be resumed from anywhere.
        return prefix + str(folder.absolute())
    _check_hub_id(place, t5=t5)
    return source


def overview(*, gpu: bool, memory: int | None = None) -> list[tuple[str, str]]:
    """Each backend's name and whether it would run here, found without the network.

    Args:
        gpu: whether torch can use a GPU.
        memory: of that GPU, bytes; with it, what each big backend would take is said too.
    """
    return [(backend.name, _status(backend, gpu, memory)) for backend in BACKENDS]


def _status(backend: Backend, gpu: bool, gpu_memory: int | None) -> str:
    if backend.hub_id is None:
        folder = embedded_folder(backend)
        lacks = missing(folder) if folder.exists() else "not installed"
        return f"{lacks}; {embedded.remedy(backend.name)}" if lacks else "ready"
    told = [_where(backend)]
    if not gpu:
        told.append("very slow without a GPU")
    elif gpu_memory is not None and backend.name in memory.FOOTPRINTS:
        told.append(memory.describe(backend.name, gpu_memory))
    return "; ".join(told)


def hub_state() -> str:
    """Where downloads go, the room there, and whether this machine is logged in; found without the network."""
    from huggingface_hub.constants import HF_HUB_CACHE

    login = (
        "logged in" if _has_token() else "not logged in (for gated weights: `hf auth login`, or set HF_TOKEN)"
    )
    return f"{login}; downloads go to {HF_HUB_CACHE}, {_room(Path(HF_HUB_CACHE)) / 1e9:.0f} GB free"


def _room(place: Path) -> int:
    """Bytes free where a folder is, or would be."""
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _where(backend: Backend) -> str:
    if not any(snapshot.lacks(hub_id, only=only) for hub_id, only in _needs(backend)):
        return "downloaded"
    known = download_size(backend)
    size = f"to be downloaded ({known / 1e9:.0f} GB)" if known else "to be downloaded"
    if not backend.gated:
        return size
    if _has_token():
        return f"{size}, once its license is accepted at {backend.license_page}"
    return f"{size}: accept its license at {backend.license_page}, then `hf auth login`"


def _needs(backend: Backend) -> list[tuple[str, tuple[str, ...]]]:
    """The hub ids that loading a backend opens, and the parts of each; () stands for all."""
    own = [(backend.hub_id, ())] if backend.hub_id else []
    styled, base = backend.style or (None, None)
    return own + ([(styled, STYLED), (base, BASE)] if styled and base else [])


def download_size(backend: Backend, *, t5: bool = True) -> int:
    """Bytes of the files that loading `backend` fetches; 0 where nobody knows."""
    if backend.name not in memory.FOOTPRINTS:
        return 0
    parts, one = memory.FOOTPRINTS[backend.name], backend.family.hub_bytes
    text = (parts.clip + parts.qwen + (parts.t5 if t5 or not backend.family.can_drop_t5 else 0)) * one
    # A style is two more UNets and one more autoencoder.
    extra = 2 * parts.network + memory.AUTOENCODER if backend.style else 0
    return text + (parts.network + memory.AUTOENCODER + extra) * one


def _check_folder(folder: Path, name: str, remedy: str, *, t5: bool = True) -> None:
    if not folder.exists():
        raise UserError(f"{name}: no such folder; {remedy}")
    if not (folder / INDEX).is_file():
        raise UserError(f"{name}: no {INDEX} in it, so it is not a model; {remedy}")
    lacks = missing(folder, t5=t5)
    if lacks:
        without = " or go without T5 with --t5 drop" if t5 and not missing(folder, t5=False) else ""
        raise UserError(
            f"{name}: incomplete model: {lacks}; download or copy it again{without and ',' + without}"
        )


def _check_file(source: str, parts: str | None, *, t5: bool) -> str:
    """A single file with, elsewhere, all that it lacks."""
    file = single_file.read(source)
    place, name = parts_of_file(file, parts), f"--model {source}"
    holds = f"holds the {' and '.join(sorted(file.parts))}"
    remedy = f"give a folder of {file.backend} in diffusers' layout with --parts FOLDER"
    local, folder = Path(place).expanduser(), Place(place).folder()
    if parts is not None and (local.exists() or not snapshot.HUB_ID.fullmatch(place)):
        if not (local / INDEX).is_file():
            raise UserError(
                f"--parts {parts}: {f'no {INDEX} in it' if local.exists() else 'no such folder'}; {remedy}"
            )
        lacks = missing(local, t5=t5, bare=file.parts)
        if lacks:
            raise UserError(
                f"{name}: {holds} only, and for the rest --parts {parts} is incomplete, {lacks}; copy that, or {remedy}"
            )
    else:
        try:
            _check_hub_id(place, t5=t5, bare=tuple(file.parts))
        except UserError as error:
            reason = str(error).replace(hub.LOCAL, remedy)
            raise UserError(f"{name}: {holds} only, and for the rest {reason}") from error
    if folder is not None:  # What is still to be downloaded can only be looked at when it is there.
        check_parts(file, folder, name)
    return str(file.path)


def check_parts(file: SingleFile, folder: Path, name: str) -> None:
    """That the folder for what a single file lacks is of the same model.

    Raises:
        UserError: another family, or a transformer of another size.
    """
    pipeline = about(folder).pipeline
    if pipeline not in file.family.pipelines:
        problem = f"it is a {file.family.pipelines[0]}, and {folder} a {pipeline}"
    else:
        problem = single_file.check_config(file, folder) or ""
    if problem:
        raise UserError(f"{name}: {problem}; give a folder of the same model with --parts FOLDER")


def _check_hub_id(
    hub_id: str, *, t5: bool = True, only: tuple[str, ...] = (), bare: tuple[str, ...] = ()
) -> None:
    from huggingface_hub import HfApi

    lacks = snapshot.lacks(hub_id, t5=t5, only=only, bare=bare)
    if lacks is None:
        return
    known = next((backend for backend in BACKENDS if backend.hub_id == hub_id), None)
    if known and known.gated and not _has_token():
        raise UserError(
            f"{hub_id}: its weights are gated; accept the license at {hub.page(hub_id)}, then {hub.LOG_IN}, or {hub.LOCAL}"
        )
    begun = snapshot.cached(hub_id)
    with hub.answers(hub_id, lacks if begun else None):
        HfApi().auth_check(hub_id)
    if known and not only and not bare:
        _check_disk(known, begun, t5=t5)


def _check_disk(backend: Backend, begun: Path | None, *, t5: bool) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    here = sum(file.stat().st_size for file in begun.rglob("*") if file.is_file()) if begun else 0
    free, need = _room(Path(HF_HUB_CACHE)), download_size(backend, t5=t5) - here
    if free < need:
        raise UserError(
            f"{backend.hub_id}: its weights take {need / 1e9:.0f} GB and {free / 1e9:.1f} GB are free in {HF_HUB_CACHE}; "
            "make room, set HF_HOME to a folder on a larger disk, or use a local copy with --model FOLDER"
        )


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None
