"""Pictures of scenes of primitives (`rfgs.tinyworld.primitives`): their layers, and those in colors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rfgs.tinyworld.primitives import CONE, CYLINDER, DOME, ELLIPSOID, FRUSTUM, SPHERE, TORUS, trace

LAYERS = 8
"""Of a traced picture: the shares of the own and the second color of thing 0, those of thing 1, premultiplied RGB of all
fixed colors, coverage."""


def render_layers(
    prims: np.ndarray,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    width: int,
    height: int,
    supersample: int = 2,
    *,
    threads: int = 1,
) -> np.ndarray:
    """LAYERS of a scene seen by `C` cameras (OpenCV, pixels): `[C, height, width, 8]` in [0, 1]."""
    prims = np.ascontiguousarray(prims, dtype=np.float32)
    radii = primitive_radii(prims)
    out = np.zeros((len(viewmats), height, width, LAYERS), dtype=np.float32)

    def render(i: int) -> None:
        trace(prims, radii, np.float32(viewmats[i]), np.float32(Ks[i]), width, height, supersample, out[i])

    if threads == 1:
        for i in range(len(viewmats)):
            render(i)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(render, range(len(viewmats))))
    return out


def own_colors(prims: np.ndarray) -> np.ndarray:
    """The colors of the first four layers, `[4, 3]`: own and second color of thing 0 and of thing 1; 0 where there is none."""
    colors = np.zeros((4, 3), dtype=np.float32)
    for row in prims[prims[:, 27] > 0]:
        first = 2 * int(row[26])
        colors[first], colors[first + 1] = row[17:20], row[21:24]
    return colors


def render_scene(
    prims: np.ndarray, viewmats: np.ndarray, Ks: np.ndarray, width: int, height: int, supersample: int = 2
) -> np.ndarray:
    """Premultiplied RGBA images `[C, height, width, 4]` in [0, 1] of a scene seen by `C` cameras (OpenCV, pixels)."""
    layers = render_layers(prims, viewmats, Ks, width, height, supersample)
    return np.concatenate([painted(layers, own_colors(prims)), layers[..., 7:]], axis=-1)


def painted(layers: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Premultiplied RGB `[..., 3]` of LAYERS `[..., 8]` in the colors `[4, 3]` of their first four."""
    return layers[..., :4] @ colors + layers[..., 4:7]


def primitive_radii(prims: np.ndarray) -> np.ndarray:
    """Radii [P] of balls about the centers of primitives [P, 28] that hold them and what they melt into (generous for cones)."""
    shape, sizes = prims[:, 0], prims[:, 13:17]
    radii = np.linalg.norm(sizes[:, :3], axis=1)
    radii = np.where(shape == SPHERE, sizes[:, 0], radii)
    radii = np.where(shape == TORUS, sizes[:, 0] + sizes[:, 1], radii)
    radii = np.where((shape == ELLIPSOID) | (shape == DOME), sizes[:, :3].max(axis=1), radii)
    radii = np.where((shape == CYLINDER) | (shape == CONE), np.hypot(sizes[:, 0], sizes[:, 1]), radii)
    radii = np.where(shape == FRUSTUM, np.hypot(sizes[:, :2].max(axis=1), sizes[:, 2]), radii)
    # A melted edge stands out by a quarter of its radius for each of the parts that meet, three at most.
    return np.ascontiguousarray(radii + 2e-3 + prims[:, 25], dtype=np.float32)
