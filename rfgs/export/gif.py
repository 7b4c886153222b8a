"""A turntable as a GIF, which chats and pages play without a video player."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rfgs.export.turntable import WHITE, turntable_frames
from rfgs.export.writing import atomic
from rfgs.splats import Splats


def write_gif(
    splats: Splats,
    path: str | Path,
    *,
    comments: Sequence[str] = (),
    frames: int = 48,
    fps: float = 16.0,
    size: int = 320,
    elevation: float = 15.0,
    background: Sequence[float] = WHITE,
) -> None:
    """Writes `turntable_frames` in 256 colors, one turn that is repeated for ever.

    Args:
        comments: lines for the file's comment.
        fps: frames a second; the format counts hundredths of a second.

    Raises:
        UserError: no frame, or a folder that cannot be written to.
    """
    from PIL import Image

    views = turntable_frames(splats, frames=frames, size=size, elevation=elevation, background=background)
    pictures = [Image.fromarray(view).quantize(256, dither=Image.Dither.NONE) for view in views]
    with atomic(path) as temporary:
        pictures[0].save(
            temporary,
            save_all=True,
            append_images=pictures[1:],
            duration=10 * round(100 / fps),
            loop=0,
            comment="\n".join(comments).encode() or b"rfgs",
        )
