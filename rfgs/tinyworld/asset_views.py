"""From where an asset is judged: the vertices of an icosphere, as T3Bench has them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_ELEVATIONS, DEFAULT_FOV, Cameras, orbit


def icosphere(subdivisions: int) -> tuple[Tensor, Tensor]:
    """Vertices [V, 3] of an icosahedron subdivided on the unit sphere (V = 12, 42, 162, ...), and bools [V, V], its edges."""
    golden = (1 + 5**0.5) / 2
    corners = [(0.0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    vertices = F.normalize(
        torch.tensor([c[i:] + c[:i] for i in range(3) for c in corners], dtype=torch.float64), dim=1
    )
    # Edges of every level are its shortest distances, which differ by a fifth at most; the next shortest are 1.4 longer.
    for level in range(subdivisions + 1):
        distances = torch.cdist(vertices, vertices) + 9 * torch.eye(len(vertices), dtype=torch.float64)
        edges = distances < 1.3 * distances.min()
        if level < subdivisions:
            first, second = edges.triu().nonzero().unbind(dim=1)
            vertices = torch.cat([vertices, F.normalize(vertices[first] + vertices[second], dim=1)])
    return vertices.float(), edges


def asset_views(size: int, subdivisions: int = 2) -> tuple[Cameras, Tensor]:
    """The views from which an asset is judged, and bools [V, V], which of them are neighbors.

    T3Bench's cameras are the 162 vertices of an icosphere; these are the 96 of them that training views an object from
    (elevation -10 to 80 degrees), at the distance and field of view of training.
    """
    vertices, edges = icosphere(subdivisions)
    elevations = vertices[:, 2].asin().rad2deg()
    azimuths = torch.atan2(vertices[:, 1], vertices[:, 0]).rad2deg()
    low, high = DEFAULT_ELEVATIONS
    kept = (elevations >= low - 1e-3) & (elevations <= high + 1e-3)
    cameras = orbit(azimuths[kept], elevations[kept], DEFAULT_DISTANCE, DEFAULT_FOV, size, size)
    return cameras, edges[kept][:, kept]
