"""Which blocks of a tile a Gaussian reaches, and its alpha there: what both compositing passes share.

Both must take identical decisions about every pixel, so both call these. Block and mask are explained in `composite`.
"""

from numba import float32, int64

from .access import at, load, store
from .bin import RECORD
from .jit import device
from .simd import bits, ceil, floor, fma, maximum, minimum, ramp, select, sqrt, trailing_zeros

BLOCKS = 32  # per tile: bit and block number = 8 * column + row


@device
def _span(records, r, dy):
    """First and last pixel center x that the ellipse covers in the rows at distance dy = mean - row; inverted if none."""
    inside = (at(records, r + 13) - at(records, r + 12) * dy * dy) * at(records, r + 11)
    half = sqrt(maximum(inside, 0.0)) + float32(1e-2)
    middle = fma(at(records, r + 10), dy, at(records, r))
    first, last = ceil(middle - half - 0.5) + 0.5, floor(middle + half - 0.5) + 0.5
    some = (inside >= 0.0) & (first <= last)
    return select(some, first, 1e9), select(some, last, -1e9)


@device
def block_mask(records, r, left, top):
    """Bit 8 * column + row is set if the Gaussian reaches a pixel center of that block of the tile at (left, top)."""
    dy = (records[r + 1] - float32(0.5) - top) - 2.0 * ramp()
    first, last = _span(records, r, dy)
    first_odd, last_odd = _span(records, r, dy - 1.0)
    first, last = minimum(first, first_odd), maximum(last, last_odd)
    mask = int64(0)
    for column in range(4):
        x = left + float32(0.5) + float32(4 * column)
        mask |= bits((first <= x + float32(3.0)) & (last >= x)) << (8 * column)
    return mask


@device
def fetch(records, flatten_ids, start, stop, near):
    """Copy the tile's records together: every block reads them, in order, from here on."""
    for slot in range(start, stop):
        r, row = flatten_ids[slot] * RECORD, (slot - start) * RECORD
        store(near, row, load(records, r))
        store(near, row + 8, load(records, r + 8))


@device
def deal(masks, start, stop, lists, lengths):
    """List each block's Gaussians, by the offsets of their records in the tile, front to back.

    Each list ends in a 0 that is not counted, since the compositor reads one ahead (`longest + 1` columns).
    A loop of its own: its branches cannot be predicted, and must not wait for memory or for masks in the making.
    """
    for block in range(BLOCKS):
        lengths[block] = 0
    for slot in range(start, stop):
        mask = masks[slot]
        while mask != 0:
            block = trailing_zeros(mask)
            mask &= mask - 1
            lists[block, lengths[block]] = (slot - start) * RECORD
            lengths[block] += 1
    for block in range(BLOCKS):
        lists[block, lengths[block]] = 0


@device
def _exp_negative(s):
    """exp(-s): the eighth power of a minimax polynomial for exp(-s/8), no bit tricks.

    By Estrin's scheme, whose chain of operations that wait for one another is half as long as Horner's.
    Relative error before rounding 1.6e-8 for s < 5.55, where alpha can reach 1/255, and 3e-5 up to 7.5;
    beyond, no exponential at all: `alpha_at` masks it out.
    """
    s2 = s * s
    low = fma(s, float32(-0.999999831806 / 8), float32(1.0))
    middle = fma(s, float32(-0.166626496666 / 8**3), float32(0.499995536631 / 8**2))
    high = fma(s, float32(-0.007966705697 / 8**5), float32(0.041497692932 / 8**4))
    high = fma(s2, float32(0.000982854199 / 8**6), high)
    p = fma(s2 * s2, high, fma(s2, middle, low))
    p = p * p
    p = p * p
    return p * p


@device
def dot(records, r, v0, v1, v2, v3):
    """The four channels of the Gaussian times those of the cotangent."""
    return fma(
        v0,
        at(records, r + 6),
        fma(v1, at(records, r + 7), fma(v2, at(records, r + 8), v3 * at(records, r + 9))),
    )


@device
def alpha_at(records, r, dx, dy, max_alpha):
    """opacity * exp(-sigma), and the alpha made of it: clamped, and 0 where gsplat skips the pixel."""
    sigma = fma(dx, fma(at(records, r + 2), dx, at(records, r + 3) * dy), at(records, r + 4) * dy * dy)
    raw = at(records, r + 5) * _exp_negative(sigma)
    alpha = minimum(raw, max_alpha)
    return raw, select((sigma >= 0.0) & (sigma <= 7.5) & (alpha >= float32(1.0 / 255.0)), alpha, 0.0)
