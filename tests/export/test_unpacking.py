"""Compressed files that would unfold to far more than an honest one, or not at all."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from rfgs.errors import UserError
from rfgs.export import comments_of, export, read
from rfgs.export.spz import HEADER, MAGIC
from rfgs.export.unpacking import SMALL, check_size, member
from rfgs.models.about import object_in
from rfgs.splats import ball


def test_large_is_what_an_honest_file_would_not_be() -> None:
    check_size(SMALL, 1)
    check_size(100 << 20, 2 << 20)
    with pytest.raises(ValueError, match=r"its 9 bytes would unfold to 67,108,865"):
        check_size(SMALL + 1, 9)


def test_an_spz_is_not_unfolded_without_an_end(tmp_path: Path) -> None:
    header = HEADER.pack(MAGIC, 3, 10_000_000, 0, 12, 0, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(header + bytes(1000)))
    with pytest.raises(UserError, match=r"would unfold to 200,000,000"):
        read(tmp_path / "a.spz")


def bundle(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def test_a_sog_is_not_unfolded_without_an_end(tmp_path: Path) -> None:
    path = bundle(tmp_path / "a.sog", {"meta.json": b" " * (SMALL + 1)})
    with pytest.raises(UserError, match=r"would unfold to 67,108,865"):
        read(path)
    assert comments_of(path) == []


def test_a_picture_of_a_sog_has_as_many_pixels_as_its_bytes_can_mean(
    tmp_path: Path,
) -> None:
    export(ball(6, 1.0, generator=torch.Generator().manual_seed(0)), tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as made:
        files = {name: made.read(name) for name in made.namelist()}
    stream = io.BytesIO()
    Image.new("RGBA", (5000, 5000)).save(stream, "WEBP", lossless=True)
    with pytest.raises(UserError, match=r"would unfold to 100,000,000"):
        read(bundle(tmp_path / "b.sog", files | {"means_l.webp": stream.getvalue()}))


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [(6, 0x01, "encrypted"), (8, 99, "compression"), (30 + 9, 0xFF, "decompressing")],
    ids=["encrypted", "compressed otherwise", "damaged"],
)
def test_what_does_not_unfold_is_told(at: int, value: int, says: str, tmp_path: Path) -> None:
    """In the file's own header, and in the list at the end of the archive."""
    path = bundle(tmp_path / "a.zip", {"meta.json": b"abcdefgh" * 99})
    content = bytearray(path.read_bytes())
    content[at] = value
    if at < 30:
        content[content.index(b"PK\1\2") + at + 2] = value
    path.write_bytes(content)
    with (
        zipfile.ZipFile(path) as made,
        pytest.raises(ValueError, match=rf"meta.json does not unfold, .*{says}"),
    ):
        member(made, "meta.json")


@pytest.mark.parametrize("suffix", [".glb", ".sog"])
def test_lists_in_lists_without_an_end(suffix: str, tmp_path: Path) -> None:
    deep = b'{"asset": ' + b"[" * 100_000
    path = tmp_path / f"a{suffix}"
    if suffix == ".sog":
        bundle(path, {"meta.json": deep})
    else:
        path.write_bytes(struct.pack("<4sIII4s", b"glTF", 2, 20 + len(deep), len(deep), b"JSON") + deep)
    with pytest.raises(UserError, match="cannot be read"):
        read(path)
    assert comments_of(path) == []


def test_json_of_somebody_else() -> None:
    assert object_in(b'{"a": [1]}') == {"a": [1]} == object_in('{"a": [1]}')
    for text in ("[1]", "", "{", "[" * 100_000, b"\xff\xfe\0"):
        assert object_in(text) is None
