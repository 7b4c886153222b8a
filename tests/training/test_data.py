"""Shards that resume and repeat, and labels that say what the pictures show."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, orbit, view_words
from rfgs.tinyworld.kinds import KINDS, SOLIDS
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import COLORS, FINISHES, PAINTS, SIZES, Scene, Thing, draw_scene
from rfgs.tinyworld.tracer import LAYERS, own_colors, render_scene
from training import data


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
    assert sorted(first) == ["labels-0000.json", "labels-0001.json", "layers-0000.npy", "layers-0001.npy"]
    assert first["layers-0000.npy"] != first["layers-0001.npy"]
    list(data.render_dataset(tmp_path / "c", 6, seed=6))
    assert files(tmp_path / "c")["labels-0000.json"] != first["labels-0000.json"]


def test_rendering_goes_on_where_it_stopped_and_redoes_a_half_written_shard(tmp_path: Path) -> None:
    list(data.render_dataset(tmp_path, 12, seed=5, workers=1))
    whole = files(tmp_path)
    (tmp_path / "labels-0000.json").write_text('[{"kept": true}]')
    (tmp_path / "labels-0001.json").unlink()
    (tmp_path / "layers-0001.npy").write_bytes(b"half")
    assert list(data.render_dataset(tmp_path, 18, seed=5, workers=1)) == [12, 18]  # One of three is there.
    after = files(tmp_path)
    assert after["labels-0000.json"] == b'[{"kept": true}]'  # A finished shard is not touched.
    assert after["labels-0001.json"] == whole["labels-0001.json"]
    assert after["layers-0001.npy"] == whole["layers-0001.npy"]
    assert "labels-0002.json" in after


def test_labels_and_pictures_come_in_one_order_and_unfinished_shards_are_left_out(tmp_path: Path) -> None:
    list(data.render_dataset(tmp_path, 12, seed=5, workers=1))
    (tmp_path / "layers-0002.npy").write_bytes(b"half")
    labels, shards = data.load_labels(tmp_path), data.open_shards(tmp_path)
    assert [shard.layers.shape for shard in shards] == [(6, 32, 32, LAYERS)] * 2 and len(labels) == 12
    assert [len(shard) for shard in shards] == [6, 6]
    for index in (0, 1):
        assert labels[6 * index : 6 * index + 6] == json.loads(
            (tmp_path / f"labels-000{index}.json").read_text()
        )
        assert np.array_equal(shards[index].layers, np.load(tmp_path / f"layers-000{index}.npy"))
        for label, colors in zip(labels[6 * index :], shards[index].colors, strict=False):
            assert np.array_equal(colors, data.thing_colors(data.scene_of(label)))


def test_a_picture_is_what_is_rendered_in_its_colors(tmp_path: Path) -> None:
    """Drawn again from the same numbers, and traced in color: the layers lose no more than their 256 steps."""
    data.render_shard(tmp_path, 3, seed=1)
    [shard] = data.open_shards(tmp_path)
    rng = np.random.default_rng([1, 3])
    for i, label in enumerate(data.load_labels(tmp_path)):
        scene = draw_scene(rng, str(rng.choice(list(data.SETS), p=list(data.SETS.values()))))
        azimuth, elevation, distance = data.draw_view(rng)
        assert data.scene_of(label) == scene and label["azimuth"] == azimuth
        camera = orbit(azimuth, elevation, distance, DEFAULT_FOV, 32, 32)
        rows = build(scene, rng)
        np.testing.assert_allclose(
            data.thing_colors(scene)[: 2 * len(scene.things)], own_colors(rows)[: 2 * len(scene.things)]
        )
        expected = render_scene(rows, camera.viewmats.numpy(), camera.Ks.numpy(), 32, 32)[0]
        assert shard[i].dtype == np.uint8
        assert np.abs(shard[i] - 255 * expected).max() < 2.1
    # By any index that numpy takes.
    assert np.array_equal(shard[1:3], np.stack([shard[1], shard[2]]))
    assert np.array_equal(shard[np.array([4, 0])], np.stack([shard[4], shard[0]]))


def test_colors_of_layers_are_those_of_the_things_in_order() -> None:
    house, cone = Thing("house", "plaster"), Thing("cone", "white", "striped")
    colors = data.thing_colors(Scene((house, cone), "next to"))
    expected = [PAINTS["plaster"], COLORS["white"], COLORS["white"], COLORS["black"]]
    np.testing.assert_allclose(colors, expected, rtol=1e-6)
    assert colors.shape == (4, 3) and not data.thing_colors(Scene((cone,)))[2:].any()


def test_labels_are_whole_and_consistent_and_none_is_held_out(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(data, "SHARD", 150)
    monkeypatch.setattr(data, "IMAGE_SIZE", 4)
    data.render_shard(tmp_path, 0, seed=1)
    labels = data.load_labels(tmp_path)
    shares: Counter[str] = Counter()
    for label in labels:
        scene = data.scene_of(label)
        assert not scene.held_out
        assert label["view"] == view_words(label["azimuth"], label["elevation"])[0]
        for thing in scene.things:
            assert (
                thing.kind in KINDS
                and thing.color in PAINTS
                and thing.finish in FINISHES
                and thing.size in SIZES
            )
            assert thing.color in COLORS or thing.expected
        forms = {(1, False, False): "single", (1, False, True): "surroundings", (2, True, False): "multiple"}
        shares[forms[len(scene.things), bool(scene.relation), bool(scene.ground)]] += 1
    assert sum(data.SETS.values()) == pytest.approx(1)
    for name, share in data.SETS.items():
        assert shares[name] / 150 == pytest.approx(share, abs=0.1)


def test_labels_say_what_the_pictures_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The colors named are the colors seen, each where its thing must stand in the labeled view.

    Only plain solids are drawn: what is of one color can be told by its hue.
    """

    def draw(rng: np.random.Generator, prompt_set: str) -> Scene:
        while True:
            scene = draw_scene(rng, prompt_set)
            if all(thing.kind in SOLIDS and thing.finish == "plain" for thing in scene.things):
                return scene

    monkeypatch.setattr(data, "draw_scene", draw)
    monkeypatch.setattr(data, "SHARD", 120)
    data.render_shard(tmp_path, 0, seed=1)
    images, checked = data.open_shards(tmp_path)[0][:], Counter()
    for label, image in zip(data.load_labels(tmp_path), images, strict=True):
        colors = [thing.color for thing in data.scene_of(label).things]
        if label["ground"] or not set(colors) <= set(HUES) or len(set(colors)) < len(colors):
            continue  # Greys, two of one color, and those alike, cannot be told apart by hue.
        centers = [centroid(image, color, colors) for color in colors]
        if not label["relation"]:
            column, row = centers[0] - 16  # Alone, it is in the middle; most are heavier below.
            assert abs(column) < 2 and -4 < row < (7 if label["things"][0][0] == "cone" else 2), label
        elif all(center is not None for center in centers) and label["elevation"] < 45:
            first, second = expected(label)
            if np.abs(first - second).max() < 3:
                continue  # One behind the other.
            shift, truth = centers[0] - centers[1], first - second
            axis = np.abs(truth).argmax()
            assert shift[axis] * truth[axis] > 0, label
        checked[label["relation"]] += 1
    assert all(checked[relation] >= 3 for relation in (None, "on", "next to")), checked


HUES = ("red", "green", "blue", "yellow", "orange", "purple")


def centroid(image: np.ndarray, color: str, candidates: list[str]) -> np.ndarray | None:
    """Mean (column, row) of the pixels whose hue is nearer to `color` than to the other candidates; None if very few."""
    rows, columns = np.nonzero(image[..., 3] == 255)
    hues = image[rows, columns, :3] / np.linalg.norm(image[rows, columns, :3], axis=1, keepdims=True)
    # Against all chromatic colors, so that a wrong color in the picture is noticed.
    names = list(HUES)
    unit = np.array([COLORS[name] for name in names])
    nearest = (hues @ (unit / np.linalg.norm(unit, axis=1, keepdims=True)).T).argmax(axis=1)
    assert {names[i] for i in np.flatnonzero(np.bincount(nearest) > 0.15 * len(rows))} <= set(candidates)
    mine = nearest == names.index(color)
    return None if mine.sum() < 15 else np.array([columns[mine].mean(), rows[mine].mean()]) + 0.5


def expected(label: dict) -> tuple[np.ndarray, np.ndarray]:
    """Where the centers of the first and second thing are seen, (column, row)."""
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
