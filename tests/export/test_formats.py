"""What a splat may lose on its way into each format and back, and that a damaged file is a line."""

import gzip
import io
import itertools
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from rfgs.errors import UserError
from rfgs.export import FORMATS, comments_of, export, format_of, read
from rfgs.export.axes import WORLD_TO_Y_UP, rotate
from rfgs.export.quantize import spatial_order, table_of
from rfgs.splats import Splats, ball
from tests.export.test_axes import covariances

BOUNDS = {
    # Centers in units, opacities, colors, covariances as part of their size, higher harmonics.
    ".ply": (1e-6, 1e-6, 1e-6, 1e-5, 1e-5),
    ".compressed.ply": (1.3e-3, 0.002, 0.003, 0.03, 0.04),
    ".splat": (1e-6, 0.002, 0.002, 0.03, None),
    ".spz": (1.3e-4, 0.002, 0.004, 0.07, 0.006),
    ".sog": (3e-5, 0.002, 0.006, 0.08, 0.015),
    ".glb": (1e-6, 1e-6, 1e-6, 1e-5, 1e-5),
}


def some_splats(count: int = 700, degree: int = 0) -> Splats:
    generator = torch.Generator().manual_seed(0)
    splats = ball(count, 0.9, generator=generator, color_spread=0.3)
    splats.log_scales += 0.7 * torch.randn(count, 3, generator=generator)
    splats.logit_opacities = 3 * torch.randn(count, generator=generator)
    if degree:
        splats.shN = 0.2 * torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator)
    return splats


def in_order_of(splats: Splats, others: Splats) -> Splats:
    """The splats whose centers are nearest to those of `others`, one for each."""
    nearest = torch.cdist(others.means.double(), splats.means.double()).argmin(dim=1)
    assert len(nearest.unique()) == len(others)
    return splats.select(nearest)


@pytest.mark.parametrize(("suffix", "degree"), [*itertools.product(BOUNDS, (0, 3))])
def test_what_comes_back(tmp_path, suffix, degree):
    splats = some_splats(300, degree)
    export(splats, tmp_path / f"a{suffix}")
    back = read(tmp_path / f"a{suffix}")
    assert len(back) == 300
    splats = in_order_of(splats, back)
    means, opacities, colors, shapes, harmonics = BOUNDS[suffix]
    assert (back.means - splats.means).abs().max() <= means
    assert (back.opacities - splats.opacities).abs().max() <= opacities
    clamp = 1.0 if suffix == ".splat" else 9.0
    assert (back.colors - splats.colors.clamp(max=clamp)).abs().max() <= colors
    was, now = covariances(splats), covariances(back)
    assert ((now - was).abs().amax(dim=(1, 2)) / was.abs().amax(dim=(1, 2))).max() <= shapes
    if harmonics is not None and degree:
        assert (back.shN - splats.shN).abs().max() <= harmonics
    else:
        assert back.sh_degree == 0


def test_every_readable_format_is_measured():
    assert {known.suffix for known in FORMATS if known.reader} == BOUNDS.keys()


@pytest.mark.parametrize("suffix", [".compressed.ply", ".spz", ".sog"])
def test_small_formats_are_small_and_the_same_each_time(tmp_path, suffix):
    splats = some_splats(2000)
    for name in ("a.ply", f"b{suffix}", f"c{suffix}"):
        export(splats, tmp_path / name)
    small = (tmp_path / f"b{suffix}").read_bytes()
    assert len(small) <= (tmp_path / "a.ply").stat().st_size / 3
    assert small == (tmp_path / f"c{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".compressed.ply", ".spz", ".sog"])
@pytest.mark.parametrize("count", [1, 257])
def test_splats_that_are_all_alike(tmp_path, suffix, count):
    """Between bounds that are one there is nothing to divide by."""
    splats = some_splats(1).select(torch.zeros(count, dtype=torch.long))
    export(splats, tmp_path / f"a{suffix}")
    back = read(tmp_path / f"a{suffix}")
    assert len(back) == count and (back.means - splats.means).abs().max() < 2e-4
    assert (back.colors - splats.colors).abs().max() < 0.005


def test_spz_as_its_specification_has_it(tmp_path):
    """One splat, taken from the bytes: https://github.com/nianticlabs/spz, README."""
    splats = some_splats(1, 1)
    export(splats, tmp_path / "a.spz")
    content = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert struct.unpack("<4sIIBBBB", content[:16]) == (b"NGSP", 3, 1, 1, 12, 0, 0)
    assert len(content) == 16 + 9 + 1 + 3 + 3 + 4 + 9
    turned = rotate(splats, WORLD_TO_Y_UP)
    position = [
        int.from_bytes(content[16 + 3 * k : 19 + 3 * k], "little", signed=True) / 4096 for k in range(3)
    ]
    assert position == pytest.approx(turned.means[0].tolist(), abs=2e-4)
    assert content[25] / 255 == pytest.approx(float(turned.opacities[0]), abs=2e-3)
    assert [(c / 255 - 0.5) / 0.15 for c in content[26:29]] == pytest.approx(
        turned.sh0[0, 0].tolist(), abs=0.014
    )
    assert [s / 16 - 10 for s in content[29:32]] == pytest.approx(turned.log_scales[0].tolist(), abs=0.032)
    packed, quat = int.from_bytes(content[32:36], "little"), [0.0] * 4
    largest, left = packed >> 30, packed
    for index in (3, 2, 1, 0):
        if index != largest:
            quat[index] = (left & 511) / 511 / 2**0.5 * (-1 if left & 512 else 1)
            left >>= 10
    quat[largest] = (1 - sum(value**2 for value in quat)) ** 0.5
    assert abs(np.dot(quat, turned.quats[0][[1, 2, 3, 0]].numpy())) == pytest.approx(1, abs=1e-4)
    harmonics = turned.shN[0].flatten().clamp(-1, 1).tolist()
    assert [(h - 128) / 128 for h in content[36:]] == pytest.approx(harmonics, abs=1 / 128)


def test_spz_of_version_2_and_of_others(tmp_path):
    def written(version: int, rotation: bytes) -> None:
        body = b"\0\x10\0" * 3 + b"\x80" + b"\x80" * 3 + b"\x60" * 3 + rotation
        (tmp_path / "a.spz").write_bytes(
            gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", version, 1, 0, 12, 0, 0) + body)
        )

    written(2, bytes([128, 128, 217]))  # A quarter turn about z: (0, 0, 0.7, 0.7).
    one = read(tmp_path / "a.spz")
    assert one.means[0].tolist() == [1, 1, 1]
    turned = rotate(one, WORLD_TO_Y_UP).quats[0]
    assert abs(float(turned @ torch.tensor([0.5**0.5, 0, 0, 0.5**0.5]))) == pytest.approx(1, abs=1e-3)
    written(1, bytes(3))
    with pytest.raises(UserError, match="of version 1; versions 2 and 3"):
        read(tmp_path / "a.spz")
    (tmp_path / "a.spz").write_bytes(b"NGSP" + bytes(60))
    with pytest.raises(UserError, match="version 4 or later"):
        read(tmp_path / "a.spz")


def test_spz_of_scenes_of_any_size(tmp_path):
    for factor in (1e-3, 1e4):
        splats = some_splats(50)
        splats.means *= factor
        export(splats, tmp_path / "a.spz")
        back = read(tmp_path / "a.spz")
        assert (back.means - in_order_of(splats, back).means).abs().max() <= 3e-4 * factor
    splats.means[0] = 1e8
    with pytest.raises(UserError, match=r"1e\+08 units away"):
        export(splats, tmp_path / "a.spz")


def test_sog_as_its_specification_has_it(tmp_path):
    """One splat, from the pictures: https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/sog/"""
    splats = some_splats(9)
    export(splats, tmp_path / "a.sog", comments=["prompt: a fox"])
    with zipfile.ZipFile(tmp_path / "a.sog") as bundle:
        meta = json.loads(bundle.read("meta.json"))
        pictures = {
            name: np.asarray(Image.open(io.BytesIO(bundle.read(name)))).reshape(12, -1).astype(int)
            for name in bundle.namelist()
            if name.endswith(".webp")
        }
        assert all(bundle.read(name)[12:16] in (b"VP8L", b"VP8X") for name in pictures)  # Lossless.
    assert (meta["version"], meta["count"], meta["asset"]["comments"]) == (2, 9, ["prompt: a fox"])
    low, high = np.array(meta["means"]["mins"]), np.array(meta["means"]["maxs"])
    steps = pictures["means_l.webp"][0] + 256 * pictures["means_u.webp"][0]
    mean = low + (high - low) * steps / 65535
    mean = np.sign(mean) * (np.exp(np.abs(mean)) - 1)
    x, y, z = (splats.means[:, i].numpy() for i in range(3))
    distance = np.abs(np.stack([y, -z, -x], axis=1) - mean).max(axis=1)
    index = distance.argmin()
    assert distance[index] < 1e-4
    scales = [meta["scales"]["codebook"][k] for k in pictures["scales.webp"][0]]
    assert scales == pytest.approx(splats.log_scales[index].tolist(), abs=6e-3)
    colors = [meta["sh0"]["codebook"][k] for k in pictures["sh0.webp"][0][:3]]
    assert colors == pytest.approx(splats.sh0[index, 0].tolist(), abs=6e-3)
    assert pictures["sh0.webp"][0][3] / 255 == pytest.approx(float(splats.opacities[index]), abs=0.002)
    assert pictures["quats.webp"][:9, 3].min() >= 252


def test_damaged_files_are_a_line(tmp_path):
    generator = np.random.default_rng(0)
    for suffix in (".splat", ".spz", ".sog", ".glb"):
        path = tmp_path / f"a{suffix}"
        export(some_splats(20), path)
        whole = path.read_bytes()
        cases = [b"", b"no such thing", whole[: len(whole) // 2 + 1]]
        for _ in range(10):
            place = int(generator.integers(len(whole)))
            cases.append(whole[:place] + bytes([int(generator.integers(256))]) + whole[place + 1 :])
        for case in cases:
            path.write_bytes(case)
            try:
                read(path)
            except UserError as error:
                assert "\n" not in str(error) and str(path) in str(error)
    with pytest.raises(UserError, match="cannot be read as splats by its name"):
        path = tmp_path / "a.mp4"
        path.write_bytes(b"")
        read(path)


def test_names(tmp_path):
    assert format_of("x/Y.Compressed.PLY").suffix == ".compressed.ply"
    assert format_of("compressed.ply").suffix == ".ply"
    with pytest.raises(UserError, match=r"'up' is for \.ply, and \.spz has no such choice"):
        export(some_splats(2), tmp_path / "a.spz", up="+y")
    export(some_splats(2), tmp_path / "a.ply", sh_degree=3, normals=True, up="+z")
    header = (tmp_path / "a.ply").read_bytes().partition(b"end_header")[0]
    assert b"property float nx" in header and b"f_rest_44" in header
    export(some_splats(2, 3), tmp_path / "a.spz", sh_degree=1)
    assert read(tmp_path / "a.spz").sh_degree == 1


LINES = ["prompt: un café, 狐", "seed: 7", "model: tiny-sd3"]


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".sog", ".glb"])
def test_what_a_file_says_of_itself_comes_along(tmp_path, suffix):
    export(some_splats(5), tmp_path / f"a{suffix}", comments=LINES)
    assert comments_of(tmp_path / f"a{suffix}") == LINES
    export(some_splats(5), tmp_path / f"b{suffix}")
    assert comments_of(tmp_path / f"b{suffix}") == []
    (tmp_path / f"a{suffix}").write_bytes((tmp_path / f"a{suffix}").read_bytes()[:30])
    assert comments_of(tmp_path / f"a{suffix}") == [] == comments_of(tmp_path / "none.ply")


def test_pictures_say_it_too(tmp_path, monkeypatch):
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[1] = 255
    monkeypatch.setattr("rfgs.export.gif.turntable_frames", lambda splats, **options: frames)
    export(some_splats(5), tmp_path / "a.gif", comments=LINES)
    with Image.open(tmp_path / "a.gif") as moving:
        assert moving.n_frames == 2 and moving.info["comment"].decode().splitlines() == LINES
        assert moving.info["duration"] == 60 and moving.info["loop"] == 0
    monkeypatch.setattr("rfgs.export.turntable.views_strip", lambda *_, **options: frames[0])
    export(some_splats(5), tmp_path / "a.png", comments=LINES)
    with Image.open(tmp_path / "a.png") as still:
        assert (still.text["prompt"], still.text["seed"]) == ("un café, 狐", "7")


def test_tables_have_the_rare_values_too():
    values = np.concatenate([np.random.default_rng(0).normal(size=5000), [-40.0, 25.0]])
    table, index = table_of(values)
    assert len(table) == 256 and np.abs(table[index] - values).max() < 0.3
    assert np.array_equal(table_of(values[:9])[0][:9], np.sort(values[:9]))


def test_neighbors_in_a_file_are_neighbors_in_space():
    points = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    points[7] = 1e5  # A stray takes nothing from the rest.
    path = points[spatial_order(points)]
    steps, random = (
        np.linalg.norm(np.diff(p[np.abs(p).max(1) < 9], axis=0), axis=1).mean() for p in (path, points)
    )
    assert steps < 0.2 * random
