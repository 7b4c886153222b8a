"""Checkpoints of a run: written with a checksum, the one before kept, and read again, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.runs.folders import CHECKPOINT, CHECKPOINT_BEFORE

SUM_MARK = b"rfgs-sum"
"""Comes after a checkpoint's data and before their SHA-256, at the end of the file."""
_SUM_SIZE = len(SUM_MARK) + 32


def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint with its checksum; the one before it is kept beside."""
    import torch

    buffer = io.BytesIO()
    torch.save({**content, "summed": True}, buffer)
    data = buffer.getvalue()
    with atomic(folder / CHECKPOINT) as path:
        path.write_bytes(data + SUM_MARK + hashlib.sha256(data).digest())
        if (folder / CHECKPOINT).exists():
            os.replace(folder / CHECKPOINT, folder / CHECKPOINT_BEFORE)


def load_checkpoint(folder: Path, say: Callable[[str], None] = lambda message: None) -> dict[str, Any] | None:
    """The last checkpoint: `config` (settings by name), `state` (of the loop), and what the record counts on.

    None where the run has not come to one, and has to begin again.

    Args:
        say: told in a line if the last one is damaged and the one before it is taken.

    Raises:
        UserError: all that there are are damaged or from another version.
    """
    there = [name for name in (CHECKPOINT, CHECKPOINT_BEFORE) if (folder / name).exists()]
    for name in there:
        content = _checkpoint(folder / name)
        if content is not None:
            if name != there[0]:
                say(f"{folder / there[0]} is damaged; going on from the checkpoint before it")
            return content
    if there:
        raise UserError(
            f"--resume {folder}: {CHECKPOINT} cannot be read; start the run again with --overwrite"
        )
    return None


def _checkpoint(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint; None if it is damaged."""
    import torch

    try:
        data = path.read_bytes()
        data, mark, digest = data[:-_SUM_SIZE], data[-_SUM_SIZE:-32], data[-32:]
        summed = mark == SUM_MARK
        if summed and hashlib.sha256(data).digest() != digest:
            return None
        # Only tensors and plain containers are read, so that a checkpoint from elsewhere cannot run code.
        content = torch.load(
            io.BytesIO(data if summed else data + mark + digest), map_location="cpu", weights_only=True
        )
        # Those of versions before this one have no checksum, and do not say that they have one.
        whole = bool(content.get("summed")) == summed
        whole = whole and all(isinstance(content[part], dict) for part in ("config", "state", "record"))
        whole = whole and {"index", "splats", "optimizer", "generator"} <= content["state"].keys()
    except Exception:  # Damaged bytes raise whatever they like.
        return None
    return content if whole else None
