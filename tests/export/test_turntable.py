import math

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from rfgs.errors import Unwritten, UserError
from rfgs.export import export
from rfgs.export import turntable as module
from rfgs.export.turntable import _pictures, turntable_frames, views_strip, write_strip, write_turntable
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, orbit, turntable
from rfgs.splats import SH_C0, Splats


def four_balls() -> Splats:
    """Opaque balls: red in front (+X), green on the object's left (+Y), blue on top (+Z), grey behind (-X)."""
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.4, 0.4]])
    return Splats(
        means=0.7 * torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(4, 1),
        log_scales=torch.full((4, 3), -2.0),
        logit_opacities=torch.full((4,), 8.0),
        sh0=((colors - 0.5) / SH_C0)[:, None],
    )


def name(pixel: np.ndarray) -> str:
    """The ball whose color a pixel [3] is nearest to."""
    palette = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (102, 102, 102)}
    palette["white"] = (255, 255, 255)
    return min(palette, key=lambda key: np.abs(np.subtract(palette[key], pixel.astype(int))).sum())


def test_one_turn_starts_at_the_front():
    frames = turntable_frames(four_balls(), frames=4, size=48, elevation=0)
    assert frames.shape == (4, 48, 48, 3) and frames.dtype == np.uint8
    # From the front, the left, the back and the right (where only the green ball is in line, behind the middle).
    assert [name(frame[24, 24]) for frame in frames] == ["red", "green", "grey", "green"]
    aside = [frame[24, 24 + 14] for frame in frames]  # 0.7 to the right at distance 3.2 is 14 pixels
    assert [name(pixel) for pixel in aside] == ["green", "grey", "white", "red"]
    assert [name(frame[24 - 14, 24]) for frame in frames] == ["blue"] * 4
    assert np.all(frames[:, 0, 0] == 255)


def test_background():
    frame = turntable_frames(four_balls(), frames=1, size=16, background=(0.0, 0.2, 1.0))[0]
    assert frame[0, 0].tolist() == [0, 51, 255]


def test_edges_are_smooth():
    """Twice the resolution, averaged: a ball's mass does not jump as it moves by a fraction of a pixel."""
    from rfgs.render import render
    from rfgs.render.cameras import orbit

    balls = four_balls()
    fine = render(balls, orbit(20, 15, 3.2, 40, 32, 32).resized(256, 256), torch.ones(3)).rgb
    truth = torch.nn.functional.avg_pool2d(fine, 8)[0].permute(1, 2, 0).numpy() * 255
    picture = views_strip(balls, 20, 15, size=32)
    assert np.abs(picture - truth).max() < 12


def test_strip_is_frames_side_by_side():
    frames = turntable_frames(four_balls(), frames=4, size=24)
    strip = views_strip(four_balls(), [0, 90, 180, 270], 15, size=24)
    np.testing.assert_array_equal(strip, np.concatenate(list(frames), axis=1))


def test_contact_sheet_is_filled_with_background():
    sheet = views_strip(four_balls(), [0, 90, 0], [0, 0, 89], size=24, columns=2, background=(0.0, 0.0, 0.0))
    assert sheet.shape == (48, 48, 3)
    assert (name(sheet[12, 12]), name(sheet[12, 36]), name(sheet[36, 12])) == ("red", "green", "blue")
    assert sheet[24:, 24:].max() == 0
    with pytest.raises(UserError, match="columns 0"):
        views_strip(four_balls(), [0], columns=0)


def test_video(tmp_path):
    path = tmp_path / "turn.mp4"
    write_turntable(four_balls(), path, frames=6, fps=12, size=64, elevation=0)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    assert meta["size"] == (64, 64) and meta["fps"] == 12 and meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    frames = [np.frombuffer(raw, np.uint8).reshape(64, 64, 3) for raw in reader]
    assert len(frames) == 6
    exact = turntable_frames(four_balls(), frames=6, size=64, elevation=0)
    # The video halves the resolution of colors, so only grey levels can be compared closely.
    assert np.abs(np.mean(frames, axis=-1) - exact.mean(axis=-1)).mean() < 4
    assert name(frames[0][32, 32]) == "red"
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # plays before it is loaded
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("radius", [0.005, 0.02, 0.2])
def test_without_supersampling_small_splats_are_as_faint_as_they_are_small(radius):
    """And not as dark as splats of a pixel's size, which each of them is blurred to."""
    balls, cameras = four_balls(), orbit(20, 15, DEFAULT_DISTANCE, DEFAULT_FOV, 64, 64)
    balls.log_scales.fill_(math.log(radius))
    exact, quick = (
        next(_pictures(balls, cameras, (1.0, 1.0, 1.0), supersampling)).astype(float)
        for supersampling in (16, 1)
    )
    assert (255 - quick).sum() == pytest.approx((255 - exact).sum(), rel=0.15)


@pytest.mark.parametrize("supersampling", [1, 2])
def test_pictures_are_the_same_however_many_are_drawn_at_once(monkeypatch, supersampling):
    cameras = turntable(7, 48, 48)
    together = list(_pictures(four_balls(), cameras, (1.0, 1.0, 1.0), supersampling))
    assert len(together) == 7 and torch.is_grad_enabled()
    for most, value in (("MOST_PIXELS", 3 * (48 * supersampling) ** 2), ("MOST_SPLATS", 1)):
        monkeypatch.setattr(module, most, value)
        for one, other in zip(
            _pictures(four_balls(), cameras, (1.0, 1.0, 1.0), supersampling), together, strict=True
        ):
            assert torch.is_grad_enabled()  # Also while there are more to come.
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        ("Error closing file: No space left on device", 1, "no space left on device"),
        ("Nothing was written into output file", 228, "no space left on device"),
        ("Unknown encoder", 1, "ffmpeg: Unknown encoder"),
        ("", 139, "ffmpeg: exit code 139"),
    ],
)
def test_a_video_that_ffmpeg_could_not_finish_is_none(tmp_path, monkeypatch, said, code, told):
    program = tmp_path / "ffmpeg"
    program.write_text(
        "#!/bin/sh\nfor path; do :; done\necho half > $path\n"
        + (f"echo '[out#0/mp4 @ 0x1] {said}' >&2\n" if said else "")
        + f"exit {code}\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    (tmp_path / "out").mkdir()
    with pytest.raises(Unwritten, match=rf"a.mp4: cannot be written \({told}\)"):
        write_turntable(four_balls(), tmp_path / "out" / "a.mp4", frames=2, size=16)
    assert list((tmp_path / "out").iterdir()) == []


def test_odd_video(tmp_path):
    with pytest.raises(UserError, match="size 63 must be even"):
        write_turntable(four_balls(), tmp_path / "a.mp4", size=63)


def test_strip_file(tmp_path):
    write_strip(four_balls(), tmp_path / "a.png", views=3, size=20)
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(picture, views_strip(four_balls(), [0, 120, 240], 15, size=20))


def test_export_chooses_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "rfgs.export.turntable.write_turntable", lambda splats, path: path.write_bytes(b"video")
    )
    export(four_balls(), tmp_path / "a.mp4")
    export(four_balls(), tmp_path / "a.png")
    assert (tmp_path / "a.mp4").read_bytes() == b"video"
    assert Image.open(tmp_path / "a.png").size == (8 * 256, 256)
