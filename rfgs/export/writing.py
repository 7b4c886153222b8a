"""What all exporters share: files that appear whole or not at all, and splats that no viewer chokes on."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rfgs.errors import UserError

if TYPE_CHECKING:
    from rfgs.splats import Splats


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to: it becomes `path` at the end, or vanishes on failure.

    Raises:
        UserError: the folder is missing or cannot be written to, or `path` is a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; create it or choose another")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{path}: the folder {path.parent} cannot be written to; choose another")
    # The suffix stays, because encoders choose their format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def finite_splats(splats: Splats, name: str | Path) -> Splats:
    """The splats on the CPU, detached, without those that a viewer would choke on; a warning tells how many.

    Those have a NaN or infinite value, or a quaternion of length zero.

    Args:
        name: of the file, for the messages.

    Raises:
        UserError: none is left.
    """
    import torch  # Not above: who claims a folder need not wait for it.

    splats = splats.detach().to("cpu")
    good = splats.quats.norm(dim=-1) > 0
    for tensor in splats.parameters().values():
        good &= torch.isfinite(tensor).flatten(1).all(dim=1) if tensor.ndim > 1 else torch.isfinite(tensor)
    if not good.any():
        raise UserError(f"{name}: none of the {len(splats)} splats is finite, there is nothing to keep")
    if not good.all():
        dropped = len(splats) - int(good.sum())
        warnings.warn(f"{name}: dropped {dropped} of {len(splats)} splats that are not finite", stacklevel=3)
        splats = splats.select(good)
    return splats
