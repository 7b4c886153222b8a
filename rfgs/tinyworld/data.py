"""Training pictures of the tiny world, rendered to disk in shards that can be made in any order and resumed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rfgs.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, orbit, view_words
from rfgs.tinyworld.scenes import build, caption, draw_scene
from rfgs.tinyworld.tracer import render_scene

IMAGE_SIZE = 128
SHARD = 500
SETS = {"single": 0.40, "surroundings": 0.20, "multiple": 0.40}
"""Share of the pictures that each set of scenes has."""


def draw_view(rng: np.random.Generator) -> tuple[float, float, float]:
    """Azimuth, elevation (degrees) and distance (world units) of one training view; one in five is from above."""
    elevation = rng.uniform(45, 85) if rng.random() < 0.2 else rng.uniform(-10, 45)
    return rng.uniform(-180, 180), elevation, DEFAULT_DISTANCE + rng.uniform(-0.1, 0.1)


def background(rng: np.random.Generator) -> np.ndarray:
    """A plain background [3] in [0, 1]: any grey."""
    return np.full(3, rng.uniform(0.0, 1.0), dtype=np.float32)


def render_shard(folder: Path, index: int, seed: int) -> None:
    """Write shard `index`: `images-NNNN.npy` [SHARD, 128, 128, 4] uint8 premultiplied RGBA, `labels-NNNN.json`."""
    labels_file, images_file = folder / f"labels-{index:04d}.json", folder / f"images-{index:04d}.npy"
    if labels_file.exists():
        return
    rng = np.random.default_rng([seed, index])
    images = np.empty((SHARD, IMAGE_SIZE, IMAGE_SIZE, 4), dtype=np.uint8)
    labels = []
    for i in range(SHARD):
        prompt_set = rng.choice(list(SETS), p=list(SETS.values()))
        scene = draw_scene(rng, prompt_set)
        azimuth, elevation, distance = draw_view(rng)
        camera = orbit(azimuth, elevation, distance, DEFAULT_FOV, IMAGE_SIZE, IMAGE_SIZE)
        picture = render_scene(
            build(scene, rng), camera.viewmats.numpy(), camera.Ks.numpy(), IMAGE_SIZE, IMAGE_SIZE
        )
        images[i] = (picture[0] * 255 + 0.5).astype(np.uint8)
        labels.append(
            {
                "set": str(prompt_set),
                "scene": scene.name,
                "things": [[thing.kind, thing.color, thing.finish] for thing in scene.things],
                "relation": scene.relation,
                "ground": scene.ground,
                "caption": caption(scene, rng),
                "view": view_words(azimuth, elevation)[0],
                "azimuth": azimuth,
                "elevation": elevation,
            }
        )
    np.save(images_file, images)
    labels_file.write_text(json.dumps(labels))  # Written last: a shard with labels is whole.


def render_dataset(folder: Path, count: int, seed: int, workers: int = 2) -> Iterator[int]:
    """Render shards until `folder` holds `count` images; yields the number that are done. Resumes where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = range(-(-count // SHARD))
    with ThreadPoolExecutor(workers) as pool:
        for done, _ in enumerate(pool.map(lambda index: render_shard(folder, index, seed), shards), start=1):
            yield done * SHARD


def load_labels(folder: Path) -> list[dict]:
    """Labels of all finished shards, in order."""
    return [label for file in sorted(folder.glob("labels-*.json")) for label in json.loads(file.read_text())]


def open_images(folder: Path) -> list[np.ndarray]:
    """One read-only memory map [SHARD, 128, 128, 4] a finished shard, in order."""
    names = [file.name[7:11] for file in sorted(folder.glob("labels-*.json"))]
    return [np.load(folder / f"images-{name}.npy", mmap_mode="r") for name in names]


def composite(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures [B, H, W, 4] uint8 over fresh plain backgrounds: [B, 3, H, W] float32 in [0, 1]."""
    picture = rgba.astype(np.float32) / 255
    behind = np.stack([background(rng) for _ in range(len(picture))])[:, None, None]
    rgb = picture[..., :3] + (1 - picture[..., 3:]) * behind
    return np.ascontiguousarray(rgb.clip(0, 1).transpose(0, 3, 1, 2))
