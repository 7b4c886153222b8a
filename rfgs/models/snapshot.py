"""The folder that a model is loaded from: a folder as it is, or a hub id's in the hub's cache, fetched where it is incomplete.

It is found once, and everything is loaded from it, so that a model that is here needs no network. No torch here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.models import hub
from rfgs.models.about import INDEX, read_object
from rfgs.models.layout import missing, wanted
from rfgs.models.places import expanded, is_folder

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WAITS = (2.0, 10.0)
"""Seconds before a download that broke off is resumed."""


def cached(hub_id: str) -> Path | None:
    """The folder of a hub id in the hub's cache, whole or not; None where there is none. No network."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(hub_id, INDEX)
    except (ValueError, OSError):  # No id that the hub or the disk takes.
        return None
    return Path(found).parent if isinstance(found, str) else None


def lacks(
    hub_id: str, *, t5: bool = True, only: Collection[str] = (), bare: Collection[str] = ()
) -> str | None:
    """What is still to be downloaded of a hub id, in words; None if nothing. `t5`, `only`, `bare`: see `layout.missing`."""
    folder = cached(hub_id)
    if folder is None:
        return f"{INDEX} is missing"
    return missing(folder, t5=t5, only=only, bare=bare, strict=True)


def folder_of(source: str, *, t5: bool = True, only: Collection[str] = (), bare: Collection[str] = ()) -> str:
    """The folder to load a folder or hub id from, after its download where it is not here.

    `t5`, `only`, `bare`: see `layout.missing`.

    Raises:
        UserError: neither, an incomplete model, one that the hub does not give, or a connection that breaks.
    """
    folder = expanded(source)
    if not is_folder(folder):
        _check_name(source)
        found = cached(source)
        done = found and not lacks(source, t5=t5, only=only, bare=bare)
        folder = found if found and done else _fetch(source, t5=t5, only=only, bare=bare)
    problem = missing(folder, t5=t5, only=only, bare=bare)
    if problem:
        raise UserError(f"{source}: incomplete model: {problem}; download or copy it again")
    return str(folder)


def _check_name(source: str) -> None:
    if not HUB_ID.fullmatch(source):
        raise UserError(
            f"{source}: no such folder; give a folder in diffusers' layout or a hub id (owner/name)"
        )


def index_of(source: str) -> dict[str, Any]:
    """The content of a folder's or hub id's model_index.json, fetched where it is not here; empty if it cannot be read.

    Raises:
        UserError: the hub does not give it.
    """
    folder = expanded(source)
    if not is_folder(folder):
        _check_name(source)
        folder = cached(source) or _fetch_index(source)
    return read_object(folder / INDEX) or {}


def _fetch_index(hub_id: str) -> Path:
    from huggingface_hub import hf_hub_download

    with hub.answers(hub_id):
        return Path(hf_hub_download(hub_id, INDEX)).parent


def _fetch(hub_id: str, *, t5: bool, only: Collection[str], bare: Collection[str]) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    begun = lacks(hub_id, t5=t5, only=only, bare=bare) if cached(hub_id) else None
    with hub.answers(hub_id, begun):
        listing = HfApi().list_repo_files(hub_id)
    names = wanted(index_of(hub_id), listing, t5=t5, only=only, bare=bare)
    for wait in _WAITS:
        try:
            return Path(snapshot_download(hub_id, allow_patterns=names))
        except Exception as error:
            if not hub.is_passing(error):
                break
            time.sleep(wait)
    # What is here stays, so that the last try, and the next run, go on where it broke off.
    with hub.answers(hub_id, lacks(hub_id, t5=t5, only=only, bare=bare)):
        return Path(snapshot_download(hub_id, allow_patterns=names))
