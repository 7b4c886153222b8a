"""What all exporters share: files that appear whole or not at all, and splats that no viewer chokes on."""

from __future__ import annotations

import os
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rfgs.errors import Unwritten, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from rfgs.splats import Splats


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to: it becomes `path` at the end, or vanishes on failure.

    Raises:
        Unwritten: the folder is missing or cannot be written to, `path` is a folder, or the disk is full.
    """
    path = Path(path)
    # The suffix stays, because encoders choose their format by it.
    temporary = path.with_name(f".{path.stem[:60]}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        if not path.parent.is_dir():
            raise Unwritten(
                path, f"the folder {path.parent} does not exist", "create it or choose another folder"
            )
        if path.is_dir():
            raise Unwritten(path, "it is a folder", "give the name of a file")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise Unwritten(path, f"the folder {path.parent} may not be written to", "choose another folder")
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise Unwritten(path, reason(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Removes what processes that were killed while they wrote `path` left beside it; nobody may be writing it now."""
    name = re.compile(rf"\.{re.escape(path.stem[:60])}\.[0-9a-f]{{8}}{re.escape(path.suffix)}")
    for left in path.parent.iterdir() if path.parent.is_dir() else ():
        if name.fullmatch(left.name):
            left.unlink(missing_ok=True)


def made(folder: Path) -> Path:
    """The folder, which is made if there is none.

    Raises:
        Unwritten: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritten(folder, reason(error)) from error
    return folder


def reason(error: OSError) -> str:
    """Why the disk refused, in a few words."""
    # numpy says only how many numbers it wrote.
    found = error.strerror or str(error)
    return "the disk is full or faulty" if " requested and " in found else found[:1].lower() + found[1:]


OPAQUE, FLAT = 20.0, -20.0
"""A logit whose opacity is 1 in float32, and the logarithm of a scale that no picture tells from 0."""


def finite_splats(splats: Splats, name: str | Path) -> Splats:
    """The splats on the CPU, detached, without those that a viewer would choke on; a warning tells how many.

    Those have a NaN or infinite value, a scale that is infinite once it is no logarithm, or a quaternion of length zero.
    An opacity of exactly 1 or 0 has an infinite logit and a flat disc an infinite negative log scale: both are kept, with
    finite values that come to the same.

    Args:
        name: of the file, for the messages.

    Raises:
        UserError: none is left.
    """
    import torch  # Not above: who claims a folder need not wait for it.

    splats = splats.detach().to("cpu")
    logits, log_scales = splats.logit_opacities, splats.log_scales
    splats = replace(
        splats,
        logit_opacities=torch.where(logits.isinf(), logits.clamp(-OPAQUE, OPAQUE), logits),
        log_scales=torch.where(log_scales.isneginf(), FLAT, log_scales),
        quats=_of_usual_length(splats.quats),
    )
    good = (splats.quats.norm(dim=-1) > 0) & splats.scales.isfinite().all(dim=1)
    for tensor in splats.parameters().values():
        good &= torch.isfinite(tensor).flatten(1).all(dim=1) if tensor.ndim > 1 else torch.isfinite(tensor)
    if not good.any():
        none = f"none of the {len(splats)} splats is finite, there is nothing to keep"
        raise UserError(f"{name}: {none}" if len(splats) else f"{name}: holds no splats, its count is 0")
    if not good.all():
        dropped = len(splats) - int(good.sum())
        warnings.warn(f"{name}: dropped {dropped} of {len(splats)} splats that are not finite", stacklevel=3)
        splats = splats.select(good)
    return splats


def _of_usual_length(quats: Tensor) -> Tensor:
    """Quaternions [N, 4], those normalized whose squares leave float32."""
    import torch

    lengths = quats.double().norm(dim=-1, keepdim=True)
    extreme = (lengths > 1e15) | ((lengths > 0) & (lengths < 1e-15))
    return torch.where(extreme, (quats.double() / lengths).float(), quats)
