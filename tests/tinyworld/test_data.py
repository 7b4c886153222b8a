"""Shards that resume and repeat, and labels that say what the pictures show."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rfgs.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, orbit, view_words
from rfgs.tinyworld import data
from rfgs.tinyworld.kinds import SOLIDS
from rfgs.tinyworld.language import vocabulary
from rfgs.tinyworld.scenes import COLORS, Scene, Thing, draw_scene


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SHARD", 6)
    monkeypatch.setattr(data, "IMAGE_SIZE", 32)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_shards_are_the_same_for_one_seed_in_any_order_and_differ_otherwise(tmp_path: Path) -> None:
    assert list(data.render_dataset(tmp_path / "a", 12, seed=5, workers=2)) == [6, 12]
    (tmp_path / "b").mkdir()
    for index in (1, 0):
        data.render_shard(tmp_path / "b", index, 5)
    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    assert sorted(first) == ["images-0000.npy", "images-0001.npy", "labels-0000.json", "labels-0001.json"]
    assert first["images-0000.npy"] != first["images-0001.npy"]
    list(data.render_dataset(tmp_path / "c", 6, seed=6))
    assert files(tmp_path / "c")["labels-0000.json"] != first["labels-0000.json"]


def test_rendering_goes_on_where_it_stopped_and_redoes_a_half_written_shard(tmp_path: Path) -> None:
    list(data.render_dataset(tmp_path, 12, seed=5))
    whole = files(tmp_path)
    (tmp_path / "labels-0000.json").write_text('[{"kept": true}]')
    (tmp_path / "labels-0001.json").unlink()
    (tmp_path / "images-0001.npy").write_bytes(b"half")
    assert list(data.render_dataset(tmp_path, 18, seed=5)) == [6, 12, 18]
    after = files(tmp_path)
    assert after["labels-0000.json"] == b'[{"kept": true}]'  # A finished shard is not touched.
    assert after["labels-0001.json"] == whole["labels-0001.json"]
    assert after["images-0001.npy"] == whole["images-0001.npy"]
    assert "labels-0002.json" in after


def test_labels_and_pictures_come_in_one_order_and_unfinished_shards_are_left_out(tmp_path: Path) -> None:
    list(data.render_dataset(tmp_path, 12, seed=5))
    (tmp_path / "images-0002.npy").write_bytes(b"half")
    labels, images = data.load_labels(tmp_path), data.open_images(tmp_path)
    assert [shard.shape for shard in images] == [(6, 32, 32, 4)] * 2 and len(labels) == 12
    for index in (0, 1):
        assert labels[6 * index : 6 * index + 6] == json.loads(
            (tmp_path / f"labels-000{index}.json").read_text()
        )
        assert np.array_equal(images[index], np.load(tmp_path / f"images-000{index}.npy"))


def scene_of(label: dict) -> Scene:
    return Scene(tuple(Thing(*thing) for thing in label["things"]), label["relation"], label["ground"])


def test_labels_are_whole_and_consistent_and_none_is_held_out(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(data, "SHARD", 150)
    monkeypatch.setattr(data, "IMAGE_SIZE", 4)
    data.render_shard(tmp_path, 0, seed=1)
    labels = data.load_labels(tmp_path)
    for label in labels:
        scene = scene_of(label)
        assert scene.name == label["scene"] and not scene.held_out
        assert set(re.findall(r"\w+", f"{label['caption']} {label['view']}")) <= set(vocabulary())
        assert label["view"] == view_words(label["azimuth"], label["elevation"])[0]
        forms = {"single": (1, False, False), "surroundings": (1, False, True), "multiple": (2, True, False)}
        assert forms[label["set"]] == (len(scene.things), bool(scene.relation), bool(scene.ground))
        assert all(thing.color in label["caption"] for thing in scene.things)
        assert scene.ground is None or scene.ground in label["caption"]
    shares = Counter(label["set"] for label in labels)
    assert sum(data.SETS.values()) == pytest.approx(1)
    for name, share in data.SETS.items():
        assert shares[name] / 150 == pytest.approx(share, abs=0.1)


def test_labels_say_what_the_pictures_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The colours named are the colours seen, each where its thing must stand in the labelled view.

    Only plain solids are drawn: what is of one colour can be told by its hue.
    """

    def draw(rng: np.random.Generator, prompt_set: str) -> Scene:
        while True:
            scene = draw_scene(rng, prompt_set)
            if all(thing.kind in SOLIDS and thing.finish == "plain" for thing in scene.things):
                return scene

    monkeypatch.setattr(data, "draw_scene", draw)
    monkeypatch.setattr(data, "SHARD", 120)
    data.render_shard(tmp_path, 0, seed=1)
    images, checked = data.open_images(tmp_path)[0], Counter()
    for label, image in zip(data.load_labels(tmp_path), images, strict=True):
        colors = [thing.color for thing in scene_of(label).things]
        if label["ground"] or {"white", "black"} & set(colors) or len(set(colors)) < len(colors):
            continue  # Greys, and two of one colour, cannot be told apart by hue.
        centers = [centroid(image, color, colors) for color in colors]
        if not label["relation"]:
            column, row = centers[0] - 16  # Alone, it is in the middle; most are heavier below.
            assert abs(column) < 2 and -4 < row < (7 if "cone" in label["scene"] else 2), label
        elif all(center is not None for center in centers) and label["elevation"] < 45:
            first, second = expected(label)
            if np.abs(first - second).max() < 3:
                continue  # One behind the other.
            shift, truth = centers[0] - centers[1], first - second
            axis = np.abs(truth).argmax()
            assert shift[axis] * truth[axis] > 0, label
        checked[label["relation"]] += 1
    assert all(checked[relation] >= 3 for relation in (None, "on", "next to")), checked


def centroid(image: np.ndarray, color: str, candidates: list[str]) -> np.ndarray | None:
    """Mean (column, row) of the pixels whose hue is nearer to `color` than to the other candidates; None if very few."""
    rows, columns = np.nonzero(image[..., 3] == 255)
    hues = image[rows, columns, :3] / np.linalg.norm(image[rows, columns, :3], axis=1, keepdims=True)
    # Against all chromatic colours, so that a wrong colour in the picture is noticed.
    names = [name for name in COLORS if name not in ("white", "black")]
    unit = np.array([COLORS[name] for name in names])
    nearest = (hues @ (unit / np.linalg.norm(unit, axis=1, keepdims=True)).T).argmax(axis=1)
    assert {names[i] for i in np.flatnonzero(np.bincount(nearest) > 0.15 * len(rows))} <= set(candidates)
    mine = nearest == names.index(color)
    return None if mine.sum() < 15 else np.array([columns[mine].mean(), rows[mine].mean()]) + 0.5


def expected(label: dict) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of the first and second thing are seen, (column, row)."""
    offset = np.array([0, -0.48, 0]) if label["relation"] == "next to" else np.array([0, 0, 0.45])
    camera = orbit(label["azimuth"], label["elevation"], DEFAULT_DISTANCE, DEFAULT_FOV, 32, 32)
    view, K = camera.viewmats[0].numpy(), camera.Ks[0].numpy()
    seen = [K @ (view[:3, :3] @ point + view[:3, 3]) for point in (offset, -offset)]
    return seen[0][:2] / seen[0][2], seen[1][:2] / seen[1][2]


def test_views_cover_every_side_with_a_fifth_from_above() -> None:
    rng = np.random.default_rng(0)
    azimuths, elevations, distances = np.array([data.draw_view(rng) for _ in range(4000)]).T
    assert np.mean(elevations > 45) == pytest.approx(0.2, abs=0.03)
    assert -10 <= elevations.min() < -8 and 83 < elevations.max() <= 85
    assert np.histogram(azimuths, 8, (-180, 180))[0].min() > 400
    assert np.abs(distances - DEFAULT_DISTANCE).max() <= 0.1


def test_composite_puts_a_plain_background_behind_premultiplied_pictures() -> None:
    rgba = np.zeros((3, 2, 4, 4), dtype=np.uint8)
    rgba[:, 0] = (51, 102, 204, 255)  # Opaque above,
    rgba[:, 1, :2] = (51, 0, 102, 102)  # 40 % covered at the lower left, empty at the lower right.
    rgb = data.composite(rgba, np.random.default_rng(0))
    assert rgb.shape == (3, 3, 2, 4) and rgb.dtype == np.float32
    np.testing.assert_allclose(
        rgb[:, :, 0], np.tile(np.array([0.2, 0.4, 0.8])[:, None], (3, 1, 4)), atol=1e-6
    )
    behind = rgb[:, :, 1, 3]
    np.testing.assert_allclose(rgb[:, :, 1, 2], behind)  # Plain,
    assert (np.ptp(behind, axis=0) > 0.01).all()  # and another one for each picture.
    covered = np.array([0.2, 0, 0.4]) + 0.6 * behind
    np.testing.assert_allclose(rgb[:, :, 1, 0], covered, atol=1e-6)


def test_backgrounds_are_every_grey() -> None:
    rng = np.random.default_rng(0)
    colors = np.stack([data.background(rng) for _ in range(2000)])
    assert colors.dtype == np.float32 and (np.ptp(colors, axis=1) == 0).all()
    assert 0 <= colors.min() and colors.max() <= 1
    assert np.histogram(colors[:, 0], 5, (0, 1))[0].min() > 300
