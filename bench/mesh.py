"""How near a mesh is to the true surface: splats are fitted to a scene of the tiny world, meshed, and measured by its distances.

    python bench/mesh.py                             # a red cube on a blue cylinder; a minute of two cores

Points are drawn evenly from the mesh's surface. Those below the lowest view of a run, whose cut is flat, count too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import trimesh
import tyro
from program import start

from rfgs.distill.settings import START_RADIUS, DistillConfig
from rfgs.export.mesh import mesh_of
from rfgs.runs.job import QUALITIES
from rfgs.splats import ball, without_haze
from rfgs.tinyworld import primitives, truth
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.shapes import rows_at

POINTS = 20_000
NEAR = 0.03
"""World units; the object is in the unit ball."""


@dataclass
class Options:
    prompt: Annotated[str, tyro.conf.Positional] = "a red cube on a blue cylinder"
    """What the splats are fitted to."""
    quality: str = "normal"
    """Of the fit: its steps and splats."""
    seed: int = 0
    """Of the fit, and of the points."""


def apart(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """World units from points [N, 3] to the nearest surface of a scene's primitives [P, 28], inside or out."""
    signed = [min(primitives._distance(row, *point) for row in rows) for point in points.astype(float)]
    return np.abs(signed)


def run(options: Options) -> None:
    scene = parse(options.prompt).looks()[0]
    generator = torch.Generator().manual_seed(options.seed)
    config = DistillConfig(**QUALITIES[options.quality])
    splats = ball(config.splats, START_RADIUS, generator=generator)
    splats = without_haze(truth.fit_truth(scene, splats, config, generator=generator))
    begun = time.process_time()
    mesh = mesh_of(splats)
    took = time.process_time() - begun
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, _ = trimesh.sample.sample_surface(solid, POINTS, seed=options.seed)
    off = apart(rows_at(scene, 0.5), np.asarray(points))
    told = {
        "splats": len(splats),
        "corners": len(mesh.vertices),
        "watertight": bool(solid.is_watertight),
        f"within {NEAR}": f"{(off <= NEAR).mean():.1%}",
        "half within": f"{np.median(off):.4f}",
        "95 % within": f"{np.quantile(off, 0.95):.3f}",
        "processor seconds": f"{took:.1f}",
    }
    print(", ".join(f"{name} {value}" for name, value in told.items()))


if __name__ == "__main__":
    start(run, Options, __doc__)
