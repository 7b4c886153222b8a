"""Sides: whether the views of an asset look like the side that they show, or like another one (the Janus problem).

Things stand in one canonical pose, so what they look like from everywhere is known, and no classifier has to tell sides. Of
each view, the nearest true picture from up to ASIDE degrees away is taken, and each true picture from farther away. If the
view is more than CLEARLY of the way from the first to one of the second, along the line between them, it looks like another
side: errors across that line change nothing, and a mixture of both is no other side. Light falls from one side, so what
differs in shading only is left out: true pictures are of different sides where enough pixels show another part of the thing,
or nothing (DIFFERENT).
"""

from __future__ import annotations

import numpy as np

ASIDE = 60.0
"""Degrees. View words change every 90, so that a view may well look as it would from up to 45 degrees away."""
CLEARLY = 0.75
"""Of the way to another side; a mixture of both is at half of it."""
DIFFERENT = 0.02
"""Of the pixels inside both silhouettes together. A snowman's face and nose are 3 %."""


def janus(pictures: np.ndarray, truth: np.ndarray, parts: np.ndarray) -> float | None:
    """The share of views that look like another side, in [0, 1]; None for what looks alike from all around.

    Args:
        pictures: of the asset [V, H, W, 3], from a whole turn in V equal steps.
        truth: the same views of what it should be.
        parts: `visible_parts` of the truth [V, H, W].
    """
    count = len(pictures)
    steps = np.abs(np.arange(count)[:, None] - np.arange(count))
    aside = np.minimum(steps, count - steps) * 360 / count > ASIDE
    differ = _different(parts)
    if (aside & differ).any(axis=1).mean() < 0.5:
        return None
    distances = _distances(pictures, truth)
    nearest = np.where(aside, np.inf, distances).argmin(axis=1)
    apart = _distances(truth, truth)[nearest].clip(1e-9)
    way = (distances[np.arange(count), nearest][:, None] - distances + apart) / (2 * apart)
    return float((aside & differ[nearest] & (way > CLEARLY)).any(axis=1).mean())


def visible_parts(layers: np.ndarray) -> np.ndarray:
    """What each pixel of pictures in layers [V, H, W, 8] in [0, 1] shows, [V, H, W]: 0 nothing, 1 to 4 what has a color of the
    prompt's, 5 what has one of its own.
    """
    colored = layers[..., :4]
    part = np.where(colored.max(axis=-1) > 0.1, 1 + colored.argmax(axis=-1), 5)
    return np.where(layers[..., 7] > 0.5, part, 0)


def _different(parts: np.ndarray) -> np.ndarray:
    """Whether views show different sides, [V, V]."""
    flat = parts.reshape(len(parts), -1)
    found = np.zeros((len(flat), len(flat)), dtype=bool)
    for i, one in enumerate(flat):
        union = ((one > 0) | (flat > 0)).sum(axis=1).clip(1)
        found[i] = (one != flat).sum(axis=1) / union >= DIFFERENT
    return found


def _distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared, between pictures of both, [V, V]."""
    some, others = (pictures.reshape(len(pictures), -1).astype(np.float64) for pictures in (some, others))
    squares = [np.square(rows).sum(axis=1) for rows in (some, others)]
    return squares[0][:, None] + squares[1] - 2 * some @ others.T
