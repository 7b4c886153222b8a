"""All pictures of a shape: its layers from a grid of views, in some sizes, kept in the user's folder for caches.

What is kept is named after the geometry's own bytes, the grid and the tracer's source, so that a world that changes makes
new albums.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rfgs.models.places import cache_folder
from rfgs.render.cameras import view_words
from rfgs.tinyworld import primitives, tracer
from rfgs.tinyworld.pictures import IMAGE_SIZE, PATCH, SETS, draw_view, recolor, thing_colors
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import Scene, draw_scene
from rfgs.tinyworld.shapes import cameras_at, rows_at, shape_of, traced
from rfgs.tinyworld.tracer import LAYERS


@dataclass(frozen=True)
class Grid:
    """Views and sizes; see docs/exact.md for what is lost by coarser ones."""

    azimuths: int = 36
    """A whole turn in equal steps, from half a step beside the front where 45 degrees are a number of steps."""
    elevations: tuple[float, ...] = (-10, 0, 10, 20, 30, 40, 50, 60, 70, 80)
    fractions: tuple[float, ...] = (0.0, 0.5, 1.0)
    supersample: int = 1

    def ring(self, elevation: float) -> list[tuple[float, float]]:
        """The views (azimuth, elevation) at one elevation, degrees."""
        step = 360 / self.azimuths
        # So no picture lies on the border of two sides.
        first = 0.0 if 45 % step else step / 2
        return [(first + step * i, elevation) for i in range(self.azimuths)]

    def views(self) -> list[tuple[float, float]]:
        """All views of one size, in the order of pictures."""
        return [view for elevation in self.elevations for view in self.ring(elevation)]


@dataclass(frozen=True, eq=False)
class Album:
    """K pictures of one shape, as the patches of 8x8 pixels that show anything of it."""

    where: np.ndarray
    """Which patches are kept, [K, 16, 16] bool."""
    patches: np.ndarray
    """Those, [N, 64, L] uint8, of the layers that the shape has."""
    layers: tuple[int, ...]
    """Which L of `rfgs.tinyworld.tracer.LAYERS`."""
    words: tuple[str, ...]
    """What `rfgs.render.cameras.view_words` says of each picture."""
    chances: np.ndarray
    """How often training would show each, [K]; they sum to 1."""

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Layers [R, 128, 128, 8] uint8 of pictures `rows` [R]."""
        count = self.where.shape[1]
        out = np.zeros((len(rows), count, count, PATCH, PATCH, LAYERS), dtype=np.uint8)
        starts = np.concatenate([[0], self.where.sum((1, 2)).cumsum()])
        for picture, row in zip(out, rows, strict=True):
            own = self.patches[starts[row] : starts[row + 1]].reshape(-1, PATCH, PATCH, len(self.layers))
            full = np.zeros((len(own), PATCH, PATCH, LAYERS), dtype=np.uint8)
            full[..., list(self.layers)] = own
            picture[self.where[row]] = full
        return out.transpose(0, 1, 3, 2, 4, 5).reshape(len(rows), count * PATCH, count * PATCH, LAYERS)


def album(shape: Scene, grid: Grid) -> Album:
    """The pictures of a shape: from the disk, or traced now, which takes seconds."""
    rows = [rows_at(shape, fraction) for fraction in grid.fractions]

    def make() -> dict[str, np.ndarray]:
        rings = [cameras_at(grid.ring(elevation), IMAGE_SIZE) for elevation in grid.elevations]
        return in_patches(traced(row, ring, grid.supersample) for row in rows for ring in rings)

    found = cached(np.concatenate(rows).tobytes() + repr(grid).encode(), make)
    azimuths, elevations = zip(*grid.views(), strict=True)
    chances = np.tile(_chances(elevations), len(rows))
    return Album(
        found["where"],
        found["patches"],
        tuple(found["layers"].tolist()),
        len(rows) * tuple(view_words(azimuths, elevations)),
        chances / chances.sum(),
    )


def in_patches(pictures: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """`where`, `patches` and `layers` of an `Album`, of pictures in layers [B, H, W, 8] in [0, 1], any number of times."""
    where, patches = [], []
    for part in pictures:
        count, size = len(part), part.shape[1] // PATCH
        cut = (part * 255 + 0.5).astype(np.uint8).reshape(count, size, PATCH, size, PATCH, LAYERS)
        cut = cut.transpose(0, 1, 3, 2, 4, 5).reshape(count, size, size, PATCH * PATCH, LAYERS)
        where.append(cut[..., -1].any(axis=3))
        patches.append(cut[where[-1]])
    all_patches = np.concatenate(patches)
    layers = np.flatnonzero(all_patches.any(axis=(0, 1)))
    return {
        "where": np.concatenate(where),
        "patches": np.ascontiguousarray(all_patches[..., layers]),
        "layers": layers,
    }


def _chances(elevations: Sequence[float]) -> np.ndarray:
    """Densities of `training.data.draw_view` at elevations, not normalized: one in five is from above 45."""
    return np.where(np.array(elevations) > 45, 0.2 / 40, 0.8 / 55)


def cached(key: bytes, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make` made once for `key` in this version of the tracer."""
    source = Path(primitives.__file__).read_bytes() + Path(tracer.__file__).read_bytes()
    file = cache_folder() / "albums" / f"{hashlib.sha256(source + key).hexdigest()[:32]}.z"
    try:
        with np.load(io.BytesIO(zlib.decompress(file.read_bytes()))) as found:
            return dict(found)
    except (OSError, ValueError, zlib.error):
        pass  # Not there, or cut short.
    made, data = make(), io.BytesIO()
    np.savez(data, **made)  # type: ignore[arg-type]
    part = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(zlib.compress(data.getvalue(), 1))
        part.replace(file)
    except OSError:
        # A full disk must not end a run.
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return made


def sample_album(count: int, looks: int, supersample: int) -> list[tuple[Album, np.ndarray]]:
    """About `count` pictures that stand for the whole world, always the same, and `looks` colorings of each.

    Scenes, sizes and views are drawn as for training (`rfgs.tinyworld.pictures`). One album for single things, with
    surroundings or without, and one for pairs.

    Returns:
        Albums, each with colors [K, looks, 4, 3].
    """
    found = []
    for number, sets in enumerate((("single", "surroundings"), ("multiple",))):
        rng = np.random.default_rng([count, number])
        share = [SETS[name] for name in sets]
        names = rng.choice(sets, size=round(count * sum(share)), p=np.array(share) / sum(share))
        scenes = [draw_scene(rng, str(name)) for name in names]
        views = [draw_view(rng)[:2] for _ in scenes]
        rows = [build(shape_of(scene), rng) for scene in scenes]

        def make(rows: list = rows, views: list = views) -> dict[str, np.ndarray]:
            return in_patches(
                traced(row, cameras_at([view], IMAGE_SIZE), supersample)
                for row, view in zip(rows, views, strict=True)
            )

        key = np.concatenate(rows).tobytes() + np.array(views).tobytes() + bytes([supersample])
        patches = cached(key, make)
        colors = np.stack(
            [np.stack([thing_colors(recolor(scene, rng)) for _ in range(looks)]) for scene in scenes]
        )
        words = tuple(view_words(*zip(*views, strict=True)))
        chances = np.full(len(scenes), 1 / count)
        layers = tuple(patches["layers"].tolist())
        found.append((Album(patches["where"], patches["patches"], layers, words, chances), colors))
    return found
