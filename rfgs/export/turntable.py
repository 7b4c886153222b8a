"""Pictures of splats: turntable videos, and strips or contact sheets of several views.

A scene that is no object in our unit ball, but larger, smaller or elsewhere, is framed by what is there (`rfgs.export.framing`).
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from rfgs.errors import UserError
from rfgs.export.framing import framed
from rfgs.export.writing import atomic
from rfgs.render import render
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, Cameras, Numbers, orbit, turntable
from rfgs.splats import Splats

WHITE = (1.0, 1.0, 1.0)
STRIP_VIEWS = 8
MOST_PIXELS, MOST_SPLATS = 1 << 19, 20_000
"""Of the pictures that are drawn at once, which takes two thirds of the time of one after another."""


def turntable_frames(
    splats: Splats,
    *,
    frames: int = 120,
    size: int = 512,
    elevation: float = 15.0,
    background: Sequence[float] = WHITE,
) -> np.ndarray:
    """One turn around the object, from its front, counter-clockwise seen from above.

    Args:
        frames: number of pictures, 360 / frames degrees apart.
        size: width and height, pixels.
        elevation: degrees.
        background: red, green, blue in [0, 1].

    Returns:
        uint8 [frames, size, size, 3].
    """
    return np.stack(list(_pictures(splats, turntable(frames, size, size, elevation=elevation), background)))


def write_turntable(
    splats: Splats,
    path: str | Path,
    *,
    frames: int = 120,
    fps: float = 30.0,
    size: int = 512,
    elevation: float = 15.0,
    background: Sequence[float] = WHITE,
    comments: Sequence[str] = (),
    supersampling: int = 2,
) -> None:
    """Writes `turntable_frames` as an H.264 video that browsers play and loop without a jump.

    Args:
        fps: frames a second.
        supersampling: pixels rendered along a pixel of the video. 1 takes a third of the time of 2 and smooths each splat by
            itself: 61 dB from the exact picture for assets of the embedded models, of which the video keeps 44.
        comments: lines for the comment in the file's metadata.

    Raises:
        UserError: an odd size, which the video's color format lacks, or a file that cannot be written.
    """
    if size % 2:
        raise UserError(f"turntable: size {size} must be even for a video")
    cameras = turntable(frames, size, size, elevation=elevation)
    noted = ["-metadata", "comment=" + "\n".join(comments)] if comments else []
    with atomic(path) as temporary:
        pictures = _pictures(splats, cameras, background, supersampling)
        _encode(pictures, temporary, size=size, fps=fps, options=noted)


def _encode(
    pictures: Iterable[np.ndarray], path: Path, *, size: int, fps: float, options: Sequence[str] = ()
) -> None:
    """Writes pictures, uint8 [size, size, 3], as a video; OSError if ffmpeg does not say that it is whole.

    `options` are ffmpeg's own for the file.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size}x{size}", "-r", f"{fps:g}", "-i", "-"]
    # -crf sets the quality, which the usual preset has no more of, a fifth of a second later. With faststart a browser begins
    # before it has the whole file.
    video = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "17", "-pix_fmt", "yuv420p"]
    video += ["-movflags", "+faststart"]
    try:
        program = get_ffmpeg_exe()
    except RuntimeError as error:
        raise OSError("there is no ffmpeg; install imageio-ffmpeg anew") from error
    process = subprocess.Popen(
        [program, "-y", "-v", "error", *raw, *video, *options, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the run, which then still writes its video.
    )
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):  # It has ended before its time, and says why.
            for picture in pictures:
                process.stdin.write(picture.tobytes())
        said = process.communicate()[1].decode(errors="replace").strip()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        full = os.strerror(errno.ENOSPC)
        if full in said or process.returncode == 256 - errno.ENOSPC:
            raise OSError(errno.ENOSPC, full)
        # The first line is the cause, and those after it are what came of that.
        problem = said.splitlines()[0] if said else f"exit code {process.returncode}"
        raise OSError(f"ffmpeg: {problem.rpartition('] ')[2]}")


def views_strip(
    splats: Splats,
    azimuths: Numbers,
    elevations: Numbers = 15.0,
    *,
    size: int = 256,
    columns: int | None = None,
    background: Sequence[float] = WHITE,
) -> np.ndarray:
    """Several views in one picture, in reading order.

    Args:
        azimuths, elevations: degrees, a number or [C]; a number is repeated.
        size: width and height of a view, pixels.
        columns: views side by side; None puts all in one row. The last row is filled up with background.
        background: red, green, blue in [0, 1].

    Returns:
        uint8 [rows * size, columns * size, 3].
    """
    cameras = orbit(azimuths, elevations, DEFAULT_DISTANCE, DEFAULT_FOV, size, size)
    columns = len(cameras) if columns is None else columns
    if columns < 1:
        raise UserError(f"strip of views: columns {columns} must be at least 1")
    rows = -(-len(cameras) // columns)
    sheet = np.empty((rows, columns, size, size, 3), np.uint8)
    sheet[:] = np.rint(np.clip(background, 0, 1) * np.float64(255))
    for index, picture in enumerate(_pictures(splats, cameras, background)):
        sheet[index // columns, index % columns] = picture
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)


def write_strip(
    splats: Splats,
    path: str | Path,
    *,
    views: int = STRIP_VIEWS,
    size: int = 256,
    elevation: float = 15.0,
    background: Sequence[float] = WHITE,
    comments: Sequence[str] = (),
) -> None:
    """Writes `views` of a turntable side by side as one picture (PNG by its suffix).

    Args:
        comments: lines of "name: text", for the texts in a PNG.

    Raises:
        UserError: no view, or a folder that cannot be written to.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    azimuths = turntable(views, size, size).azimuths
    picture = Image.fromarray(views_strip(splats, azimuths, elevation, size=size, background=background))
    texts = PngInfo()
    for line in comments:
        name, _, text = line.partition(": ")
        if text and name.isascii() and len(name) < 80:
            texts.add_itxt(name, text)
    with atomic(path) as temporary:
        picture.save(temporary, pnginfo=texts)


def _pictures(
    splats: Splats, cameras: Cameras, background: Sequence[float], supersampling: int = 2
) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] of each camera in turn, rendered at so many times the size so that edges come out smooth."""
    splats, alone = framed(splats.detach()), supersampling == 1
    cameras = cameras.resized(supersampling * cameras.width, supersampling * cameras.height).to(splats.device)
    color = torch.tensor(background, dtype=torch.float32, device=splats.device)
    pixels = cameras.width * cameras.height
    together = max(1, min(MOST_PIXELS // pixels, MOST_SPLATS // max(len(splats), 1)))
    for first in range(0, len(cameras), together):
        with torch.no_grad():
            rgb = render(splats, cameras[first : first + together], color, antialiased=alone).rgb
            rgb = rgb if alone else avg_pool2d(rgb, supersampling)
            # As they lie in memory, with a pixel's channels side by side: any other order takes seven times as long.
            pictures = rgb.permute(0, 2, 3, 1).clamp(0, 1).mul_(255).round_().byte().cpu().numpy()
        yield from pictures
