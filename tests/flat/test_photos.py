"""All kinds of image files that people have, made here with Pillow, and what is read from them."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from rfgs.errors import UserError
from rfgs.flat.photos import read_photo


@pytest.fixture
def colors() -> Image.Image:
    """40x24 pixels, no two of which are equal."""
    y, x = np.mgrid[:24, :40]
    return Image.fromarray(np.stack([x * 6, y * 10, x * 2 + y], -1).astype(np.uint8))


def test_a_plain_photo(tmp_path: Path, colors: Image.Image) -> None:
    colors.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_photo(tmp_path / "a.png")), np.asarray(colors))


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_270),
        (8, Image.Transpose.ROTATE_90),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_exif_rotation(
    tmp_path: Path, colors: Image.Image, orientation: int, turned: Image.Transpose, bits: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = colors
    if bits == 16:
        image = Image.fromarray(np.asarray(colors.convert("L")).astype(np.uint16) * 257)
    image.save(tmp_path / "a.png", exif=exif)
    expected = (colors if bits == 8 else colors.convert("L").convert("RGB")).transpose(turned)
    assert np.array_equal(np.asarray(read_photo(tmp_path / "a.png")), np.asarray(expected))


def test_transparency_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1))
    image.putpixel((0, 0), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 100, 200, 128))
    image.save(tmp_path / "a.png")
    read = np.asarray(read_photo(tmp_path / "a.png"))[0].astype(int)
    assert read[0].tolist() == [255, 255, 255]
    opacity = 128 / 255
    assert np.abs(read[1] - (opacity * np.array([0, 100, 200]) + (1 - opacity) * 255)).max() <= 1


def test_a_transparent_color_of_a_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert np.asarray(read_photo(tmp_path / "a.png"))[0].tolist() == [[255, 255, 255], [200, 0, 0]]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK"])
def test_other_color_models(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    half = Image.new("RGB", (8, 4), (255, 255, 255))
    half.paste((0, 0, 0), (4, 0, 8, 4))
    half.convert(mode).save(file)
    assert np.array_equal(np.asarray(read_photo(file)), np.asarray(half))


def test_sixteen_bits_of_grey(tmp_path: Path) -> None:
    values = np.array([[0, 257, 128 * 257, 65535, 32700]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    read = np.asarray(read_photo(tmp_path / "a.png"))[0, :, 0]
    assert read.tolist() == np.round(values[0] / 257).astype(int).tolist()


def test_large_photos_are_scaled_down(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3000, 600), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (1500, 0, 3000, 600))
    image.save(tmp_path / "a.png")
    read = np.asarray(read_photo(tmp_path / "a.png"))
    assert read.shape == (410, 2048, 3)
    assert read[200, 500].tolist() == [255, 255, 255] and read[200, 1500].tolist() == [0, 0, 255]
    # The hidden red of the transparent half does not bleed: from white to blue, red and green are equal.
    assert (read[..., 0] == read[..., 1]).all()


def test_too_many_pixels_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    for side in (15_000, 100_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
        with pytest.raises(UserError, match=r"a\.png: has .* pixels; scale it down to 2048 pixels or less"):
            read_photo(tmp_path / "a.png")


def test_files_that_are_refused(tmp_path: Path, colors: Image.Image) -> None:
    colors.save(tmp_path / "whole.png")
    colors.save(tmp_path / "whole.jpg")
    for suffix in ("png", "jpg"):
        whole = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 100_000, np.int32)).save(tmp_path / "large.tif")
    reasons = {
        "none.png": "no such file",
        ".": "is a folder",
        "empty.png": "is empty",
        "text.png": "is not an image",
        "cut.png": "is damaged or cut off",
        "cut.jpg": "is damaged or cut off",
        "float.tif": "floating-point pixels",
        "large.tif": "pixels from 100000.0 to 100000.0",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError) as caught:
            read_photo(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_that_may_not_be_read(tmp_path: Path, colors: Image.Image) -> None:
    colors.save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(UserError, match="cannot be read; check its permissions"):
        read_photo(tmp_path / "a.png")


def test_damage_of_every_kind_is_told_in_one_line(tmp_path: Path, colors: Image.Image) -> None:
    """Files with bytes changed at random: each is either read as an image or refused, and nothing else is raised."""
    rng = np.random.default_rng(0)
    refused = 0
    for suffix in ("png", "jpg", "gif", "webp", "tif", "bmp"):
        colors.save(tmp_path / f"a.{suffix}")
        whole = np.frombuffer((tmp_path / f"a.{suffix}").read_bytes(), np.uint8)
        for _ in range(15):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
            (tmp_path / f"b.{suffix}").write_bytes(damaged.tobytes())
            try:
                assert read_photo(tmp_path / f"b.{suffix}").mode == "RGB"
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 5


TURNED = b"II*\0\x08\0\0\0" + struct.pack("<HHHIIHHI4s", 2, 0x112, 3, 1, 6, 0x11A, 2, 4, b"abc\0") + bytes(4)
"""EXIF that says which side is up, and a resolution in words, which Pillow cannot write again."""


@pytest.mark.parametrize(
    ("suffix", "exif", "turned"),
    [("jpg", b"Exif\0\0" + TURNED, True), ("png", TURNED, True), ("png", b"garbage" * 9, False)],
)
def test_broken_exif_leaves_the_pixels(tmp_path: Path, suffix: str, exif: bytes, turned: bool) -> None:
    image = Image.new("RGB", (24, 8), (200, 40, 40))
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    read = read_photo(tmp_path / f"a.{suffix}")
    assert read.size == ((8, 24) if turned else (24, 8))
    assert np.abs(np.asarray(read, int) - (200, 40, 40)).max() <= 3


def test_long_texts_are_no_matter(tmp_path: Path, colors: Image.Image) -> None:
    texts = PngInfo()
    texts.add_text("parameters", "x" * 3_000_000, zip=True)
    colors.save(tmp_path / "a.png", pnginfo=texts)
    assert np.array_equal(np.asarray(read_photo(tmp_path / "a.png")), np.asarray(colors))


def swapped() -> bytes:
    """A profile of an sRGB whose red and blue have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        tag = profile[132 + 12 * number : 136 + 12 * number]
        profile[132 + 12 * number] = {b"rXYZ": ord("b"), b"bXYZ": ord("r")}.get(bytes(tag), tag[0])
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors_are_what_the_profile_says(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (4, 4), (230, 20, 20))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png", icc_profile=swapped())
    assert np.abs(np.asarray(read_photo(tmp_path / "a.png"), int) - (20, 20, 230)).max() <= 2
    image.save(tmp_path / "b.png", icc_profile=b"damaged" * 50)
    assert np.abs(np.asarray(read_photo(tmp_path / "b.png"), int) - (230, 20, 20)).max() <= 2


def test_a_profile_of_other_colors_than_the_images_says_nothing(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 90).save(tmp_path / "a.png", icc_profile=swapped())
    assert (np.asarray(read_photo(tmp_path / "a.png")) == 90).all()


def test_what_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """A picture of one color is a small file whatever its size; nothing is unpacked before it is refused."""
    Image.new("1", (9000, 8000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(UserError, match="9000x8000 pixels; scale it down"):
        read_photo(tmp_path / "bomb.png")


def test_a_large_jpeg_is_unpacked_at_a_smaller_size(tmp_path: Path) -> None:
    Image.new("L", (9000, 8000), 90).save(tmp_path / "large.jpg")
    assert max(read_photo(tmp_path / "large.jpg").size) == 2048
