"""What the measuring programs share: files of results that are added to, and sheets of pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.measure.rows import made_by

_LABEL, _GAP = 14, 4  # Pixels of a sheet.


def open_results(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What `path` holds, to be added to, or a new record of `settings` and of this machine.

    Args:
        settings: all that the results depend on, in what JSON knows.

    Raises:
        UserError: `path` holds results of other settings, or no results.
    """
    settings = json.loads(json.dumps(settings))  # As they come back from a file: tuples are lists there.
    if not path.exists():
        return {"settings": settings, **made_by()}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        before = results["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no results; choose another --output") from error
    other = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
    if other:
        raise UserError(
            f"{path}: was measured with other settings ({', '.join(other)}); remove it or choose another --output"
        )
    return results


def save_results(path: Path, results: dict[str, Any]) -> None:
    """Write results; if this is interrupted, the earlier file is still there. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def fingerprint(folder: Path) -> str:
    """12 hexadecimal digits that tell the weights in `folder` from others; UserError where there are none."""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise UserError(f"{folder}: holds no weights (*.safetensors)")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def check_weights(path: Path, rows: Sequence[dict[str, Any]], weights: dict[str, str]) -> None:
    """Whether the results of a table are of these weights.

    Args:
        weights: of models by name, their `fingerprint`; rows have theirs as "model" and "weights".

    Raises:
        UserError: a row was made with others.
    """
    for row in rows:
        if weights.get(row["model"], row["weights"]) != row["weights"]:
            raise UserError(
                f"{path}: has results of other weights of {row['model']}; choose another --output"
            )


def write_sheet(path: Path, rows: Sequence[tuple[str, Sequence[Tensor]]], *, tile: int = 96) -> None:
    """Write pictures [3, H, W] in [0, 1] in rows, `tile` pixels wide and high each, every row under its label.

    A row without pictures is its label alone.
    """
    columns = max(len(pictures) for _, pictures in rows)
    heights = [_LABEL + (tile + _GAP if pictures else 0) for _, pictures in rows]
    page = Image.new("RGB", (columns * (tile + _GAP) - _GAP, sum(heights)), "white")
    draw, top = ImageDraw.Draw(page), 0
    for (label, pictures), height in zip(rows, heights, strict=True):
        draw.text((2, top + 1), label, fill="black")
        for column, picture in enumerate(pictures):
            size = (tile, tile)
            small = F.interpolate(picture[None].float(), size=size, mode="bilinear", antialias=True)[0]
            pixels = (small.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            page.paste(Image.fromarray(pixels), (column * (tile + _GAP), top + _LABEL))
        top += height
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        page.save(temporary, optimize=True)
