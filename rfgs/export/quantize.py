"""What the small formats share: an order in space, rotations by their three smallest components, and tables of 256 values."""

from __future__ import annotations

import numpy as np

OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The components of a quaternion beside each one."""
TABLE = 256


def spatial_order(means: np.ndarray) -> np.ndarray:
    """Indices [N] that put points [N, 3] along a Morton curve: neighbors in space become neighbors in the file."""
    low = means.min(axis=0)
    extent = max(float((means - low).max()), 1e-30)
    cells = ((means - low).astype(np.float64) / extent * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for bit in range(21):
        for axis in range(3):
            code |= ((cells[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return np.argsort(code, kind="stable")


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index [N] of the largest component of quaternions [N, 4], and the three others [N, 3] once that one is positive.

    They lie within 1 / sqrt(2) of zero.
    """
    quats = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    largest = np.abs(quats).argmax(axis=1)
    sign = np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1, 1)
    return largest, np.take_along_axis(quats, OTHERS[largest], 1) * sign


def from_smallest_three(largest: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The inverse of `smallest_three`: unit quaternions, float32 [N, 4]."""
    quats = np.empty((len(largest), 4), np.float32)
    np.put_along_axis(quats, OTHERS[largest], others.astype(np.float32), 1)
    missing = np.sqrt(np.clip(1 - np.square(others).sum(axis=1), 0, 1))
    np.put_along_axis(quats, largest[:, None], missing[:, None].astype(np.float32), 1)
    return quats


def table_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 values, float64 in rising order, near all of `values`, and the index, uint8, of the nearest for each.

    Lloyd's algorithm on the line; it starts half from quantiles, half from even steps, so that rare values at the ends have
    entries of their own.
    """
    ordered = np.sort(values.astype(np.float64), axis=None)
    distinct = np.unique(ordered)
    if len(distinct) <= TABLE:
        table = np.pad(distinct, (0, TABLE - len(distinct)), mode="edge")
    else:
        steps = np.linspace(0, 1, TABLE // 2)
        table = np.sort([*np.quantile(ordered, steps), *(ordered[0] + steps * (ordered[-1] - ordered[0]))])
        heaped = np.concatenate([[0.0], ordered.cumsum()])
        for _ in range(20):
            bounds = np.array([0, *np.searchsorted(ordered, (table[1:] + table[:-1]) / 2), len(ordered)])
            counts, sums = np.diff(bounds), np.diff(heaped[bounds])
            table = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), table))
    index = np.searchsorted((table[1:] + table[:-1]) / 2, values)
    return table, index.astype(np.uint8)


def bytes_of(fractions: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as the nearest of 0 to 255, uint8; those outside are clipped."""
    return np.clip(np.rint(np.asarray(fractions, np.float64) * 255), 0, 255).astype(np.uint8)


def logits_of(opacities: np.ndarray) -> np.ndarray:
    """Logits, float32, of opacities that were kept in 8 bits: of 0 and 1, half a step away from them, where they are finite."""
    inside = np.clip(np.asarray(opacities, np.float64), 0.5 / 255, 1 - 0.5 / 255)
    return np.log(inside / (1 - inside)).astype(np.float32)
