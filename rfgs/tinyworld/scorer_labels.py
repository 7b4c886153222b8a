"""What the scorer's classifiers tell apart, and which class is right for a picture."""

from __future__ import annotations

from collections.abc import Mapping

from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.scenes import FINISHES, GROUNDS, PAINTS, RELATIONS, Scene
from rfgs.tinyworld.scorer import AZIMUTHS, ELEVATIONS, nearest

LABELS: dict[str, tuple[str, ...]] = {
    "kind": tuple(KINDS),
    "color": tuple(PAINTS),
    "finish": tuple(FINISHES),
    "second_kind": tuple(KINDS),
    "second_color": tuple(PAINTS),
    "relation": ("none", *RELATIONS),
    "ground": ("none", *GROUNDS),
    "view": ("front view", "back view", "left side view", "right side view", "overhead view"),
    "azimuth": AZIMUTHS,
    "elevation": ELEVATIONS,
}
"""The classes of each classifier of a new scorer; an older one may know fewer (`Scorer.labels`).

`kind`, `color` and `finish` are of the main thing, the first that a caption names.
"""


def class_numbers(
    scene: Scene,
    view: str,
    direction: tuple[float, float] | None = None,
    labels: Mapping[str, tuple[str, ...]] = LABELS,
) -> list[int]:
    """The right class of each of `labels`, -100 (no loss, no verdict) for a second thing that is not there.

    Args:
        direction: azimuth and elevation of the camera in degrees; None where nobody knows, which gives -100 too.
        labels: of the scorer that is asked; what it has no class for gives -100.
    """
    first = scene.things[0]
    second = scene.things[1] if len(scene.things) > 1 else None
    names: dict[str, str | None] = {
        "kind": first.kind,
        "color": first.color,
        "finish": first.finish,
        "second_kind": second.kind if second else None,
        "second_color": second.color if second else None,
        "relation": scene.relation or "none",
        "ground": scene.ground or "none",
        "view": view,
        "azimuth": direction and nearest(direction[0], AZIMUTHS),
        "elevation": direction and nearest(direction[1], ELEVATIONS),
    }
    return [labels[key].index(name) if (name := names[key]) in labels[key] else -100 for key in labels]
