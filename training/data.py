"""Training pictures of the tiny world, rendered to disk in shards that can be made in any order and resumed.

What is stored are layers (`rfgs.tinyworld.tracer`): pictures are linear in the colors of their things, so that each can be
shown in any colors, and over any background, without being rendered again.
"""

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rfgs.render.cameras import DEFAULT_FOV, orbit, view_words
from rfgs.tinyworld.pictures import IMAGE_SIZE, SETS, draw_view, thing_colors
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import Scene, Thing, draw_scene
from rfgs.tinyworld.tracer import LAYERS, render_layers

SHARD = 500


def background(rng: np.random.Generator) -> np.ndarray:
    """A plain background [3] in [0, 1]: any grey."""
    return np.full(3, rng.uniform(0.0, 1.0), dtype=np.float32)


def render_shard(folder: Path, index: int, seed: int, shape: tuple[int, int] | None = None) -> None:
    """Write shard `index`: `layers-NNNN.npy` [SHARD, 128, 128, 8] uint8, `labels-NNNN.json`.

    Args:
        shape: the number of pictures and their pixels in place of SHARD and IMAGE_SIZE.
    """
    labels_file, layers_file = folder / f"labels-{index:04d}.json", folder / f"layers-{index:04d}.npy"
    if labels_file.exists():
        return
    count, size = shape or (SHARD, IMAGE_SIZE)
    rng = np.random.default_rng([seed, index])
    layers = np.empty((count, size, size, LAYERS), dtype=np.uint8)
    labels = []
    for i in range(count):
        scene = draw_scene(rng, str(rng.choice(list(SETS), p=list(SETS.values()))))
        azimuth, elevation, distance = draw_view(rng)
        camera = orbit(azimuth, elevation, distance, DEFAULT_FOV, size, size)
        rows = build(scene, rng)
        traced = render_layers(rows, camera.viewmats.numpy(), camera.Ks.numpy(), size, size)
        layers[i] = (traced[0] * 255 + 0.5).clip(0, 255).astype(np.uint8)  # 256 would be black.
        labels.append(label_of(scene, azimuth, elevation))
    np.save(layers_file, layers)
    labels_file.write_text(json.dumps(labels))  # Written last: a shard with labels is whole.


def label_of(scene: Scene, azimuth: float, elevation: float) -> dict:
    """What is written down of a picture: its scene, and from where it is seen (degrees, and in words)."""
    return {
        "things": [[thing.kind, thing.color, thing.finish, thing.size] for thing in scene.things],
        "relation": scene.relation,
        "ground": scene.ground,
        "view": view_words(azimuth, elevation)[0],
        "azimuth": azimuth,
        "elevation": elevation,
    }


def scene_of(label: dict) -> Scene:
    """The scene that a label tells of."""
    return Scene(tuple(Thing(*thing) for thing in label["things"]), label["relation"], label["ground"])


def render_dataset(folder: Path, count: int, seed: int, workers: int = 2) -> Iterator[int]:
    """Render shards until `folder` holds `count` pictures; yields the number that are done. Resumes where it stopped.

    Args:
        workers: processes; 1 renders in this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(-(-count // SHARD)) if not (folder / f"labels-{i:04d}.json").exists()]
    done = -(-count // SHARD) - len(missing)
    if workers == 1 or len(missing) < 2:
        for index in missing:
            render_shard(folder, index, seed)
            done += 1
            yield done * SHARD
        return
    # Processes that begin anew: a fork of one that computes with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        # These have the module's constants anew, whatever they are here.
        render = partial(render_shard, folder, seed=seed, shape=(SHARD, IMAGE_SIZE))
        for _ in pool.map(render, missing):
            done += 1
            yield done * SHARD


@contextmanager
def rendering(folder: Path, count: int, seed: int, workers: int) -> Iterator[None]:
    """Processes that render what `folder` lacks of `count` pictures, in order, as long as this lasts."""
    shards = -(-count // SHARD)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_render_every, args=(folder, first, shards, workers, seed), daemon=True)
        for first in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _render_every(folder: Path, first: int, end: int, step: int, seed: int) -> None:
    for index in range(first, end, step):
        render_shard(folder, index, seed)


def load_labels(folder: Path) -> list[dict]:
    """Labels of all finished shards, in order."""
    return [label for file in sorted(folder.glob("labels-*.json")) for label in json.loads(file.read_text())]


@dataclass(frozen=True, eq=False)
class Shard:
    """The pictures of one shard, in the colors that they were drawn in."""

    layers: np.ndarray
    """[SHARD, 128, 128, 8] uint8, on disk."""
    colors: np.ndarray
    """[SHARD, 4, 3]."""

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, rows: "int | slice | np.ndarray") -> np.ndarray:
        """Pictures [..., 128, 128, 4] uint8, premultiplied RGBA."""
        layers = self.layers[rows].astype(np.float32)
        rgb = np.einsum("...hwl,...lc->...hwc", layers[..., :4], self.colors[rows]) + layers[..., 4:7]
        return (np.concatenate([rgb, layers[..., 7:]], axis=-1) + 0.5).clip(0, 255).astype(np.uint8)


def open_shards(folder: Path) -> list[Shard]:
    """All finished shards, in order."""
    return [open_shard(folder, int(file.name[7:11])) for file in sorted(folder.glob("labels-*.json"))]


def open_shard(folder: Path, index: int) -> Shard:
    """A finished shard."""
    labels = json.loads((folder / f"labels-{index:04d}.json").read_text())
    colors = np.stack([thing_colors(scene_of(label)) for label in labels])
    return Shard(np.load(folder / f"layers-{index:04d}.npy", mmap_mode="r"), colors)


def composite(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures [B, H, W, 4] uint8 over fresh plain backgrounds: [B, 3, H, W] float32 in [0, 1]."""
    picture = rgba.astype(np.float32) / 255
    behind = np.stack([background(rng) for _ in range(len(picture))])[:, None, None]
    rgb = picture[..., :3] + (1 - picture[..., 3:]) * behind
    return np.ascontiguousarray(rgb.clip(0, 1).transpose(0, 3, 1, 2))
