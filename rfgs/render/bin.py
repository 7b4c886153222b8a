"""Which Gaussians touch which tile, front to back.

`pack_records` makes one cache line of everything that the compositor reads of a Gaussian and finds the tiles of its exact
ellipse; `sort_by_depth` orders each camera's Gaussians; `count_tiles` and `fill_tiles` deal them out to the tiles.
Sorting N depths and dealing in order is cheaper than gsplat's sort of (tile, depth) keys, and gives the same order:
by depth, ties by index.

An *edge* is one (Gaussian, tile) pair, numbered Gaussian by Gaussian; a *slot* is the same pair's place in the tiles'
lists. Gradients are gathered per edge, so that threads never add to the same number.
"""

import numpy as np
from numba import float32, int32, int64

from .access import CHUNK, at, gather, next_item, scatter
from .jit import COUNTER, F1, I1, I2, device, kernel
from .simd import ceil, floor, log, maximum, minimum, select, sqrt

TILE = 16
RECORD = 16  # floats: mean x, y; conic xx/2, xy, yy/2; opacity; 4 channels; ellipse: slope, 1/xx, det/xx, reach; 2 free
DIGIT = 12
BOX = "int16[::1]"  # numbers of tiles: half the cache of int32, and enough for 524,000 pixels


@kernel(
    f"void({COUNTER}, int64, {F1}, {F1}, {F1}, float32[:,:,:], {I1}, int64, int64, int64, {F1}, {BOX}, {I1})"
)
def pack_records(
    counter, items, means2d, conics, opacities, colors, radii, N, width, height, records, boxes, tiles
):
    """Flat means2d [C,N,2], conics [C,N,3], opacities [C or 1,N], radii [C,N,2] and colors [C or 1,N,1..4] -> records
    [C*N,16], boxes [C*N,4] and tiles [C*N], flat. An item is CHUNK Gaussians of one camera.

    boxes are ranges of tiles x0, x1, y0, y1 (ends excluded), tiles their areas; 0 for Gaussians that touch no pixel center.
    """
    channels = colors.shape[2]
    chunks = (N + CHUNK - 1) // CHUNK
    while True:
        item = next_item(counter)
        if item >= items:
            break
        c, begin = item // chunks, (item % chunks) * CHUNK
        end = min(N, begin + CHUNK)
        for n in range(begin, end, 8):
            i, last = c * N + n, min(7, N - 1 - n)
            mx, my = gather(means2d, 2 * i, 2, last), gather(means2d, 2 * i + 1, 2, last)
            A, B = gather(conics, 3 * i, 3, last), gather(conics, 3 * i + 1, 3, last)
            D, opacity = (
                gather(conics, 3 * i + 2, 3, last),
                gather(opacities, i if opacities.size > N else n, 1, last),
            )
            det = A * D - B * B
            seen = (
                (gather(radii, 2 * i, 2, last) > 0.0)
                & (opacity >= float32(1.0 / 255.0))
                & (det > 0.0)
                & (A > 0.0)
            )
            # alpha >= 1/255 inside the ellipse d' conic d <= reach; a hair is added, for the compositor decides.
            reach = 2.0 * log(maximum(opacity * 255.0, 1.0)) + 1e-3
            inv_A, inv_det = 1.0 / A, 1.0 / det
            half_x, half_y = sqrt(reach * D * inv_det) + 1e-2, sqrt(reach * A * inv_det) + 1e-2
            # Pixel j has its center at j + 0.5.
            x0, x1 = maximum(ceil(mx - half_x - 0.5), 0.0), minimum(floor(mx + half_x - 0.5), width - 1)
            y0, y1 = maximum(ceil(my - half_y - 0.5), 0.0), minimum(floor(my + half_y - 0.5), height - 1)
            seen = seen & (x0 <= x1) & (y0 <= y1)
            x0, x1 = floor(x0 * (1.0 / TILE)), floor(x1 * (1.0 / TILE)) + 1.0
            y0, y1 = floor(y0 * (1.0 / TILE)), floor(y1 * (1.0 / TILE)) + 1.0
            scatter(tiles, i, 1, last, select(seen, (x1 - x0) * (y1 - y0), 0.0))
            scatter(boxes, 4 * i, 4, last, select(seen, x0, 0.0))
            scatter(boxes, 4 * i + 1, 4, last, select(seen, x1, 0.0))
            scatter(boxes, 4 * i + 2, 4, last, select(seen, y0, 0.0))
            scatter(boxes, 4 * i + 3, 4, last, select(seen, y1, 0.0))
            r = RECORD * i
            scatter(records, r, RECORD, last, mx)
            scatter(records, r + 1, RECORD, last, my)
            scatter(records, r + 2, RECORD, last, 0.5 * A)
            scatter(records, r + 3, RECORD, last, B)
            scatter(records, r + 4, RECORD, last, 0.5 * D)
            scatter(records, r + 5, RECORD, last, opacity)
            scatter(records, r + 10, RECORD, last, B * inv_A)
            scatter(records, r + 11, RECORD, last, inv_A)
            scatter(records, r + 12, RECORD, last, det * inv_A)
            scatter(records, r + 13, RECORD, last, reach)
        own = c if colors.shape[0] > 1 else 0
        for n in range(begin, end):
            r = (c * N + n) * RECORD + 6
            for k in range(channels):
                records[r + k] = colors[own, n, k]
            for k in range(channels, 4):
                records[r + k] = float32(0.0)


@kernel(f"void({COUNTER}, int64, {I1}, {I1}, int64, {I1}, {I1})")
def sort_by_depth(counter, items, keys, radii, N, order, counts):
    """The indices c*N+n of each camera's visible Gaussians into order[c*N:], nearest first; how many into counts [C].

    keys [C*N] are the bits of the (positive) depths, radii [C*N,2] are 0 for what is not visible. A radix sort from the
    lowest digit on, over the bits in which the keys differ; stable, so that equal depths stay in order of index.
    (Loops, not slices: Numba takes seconds to compile a slice assignment.)
    """
    starts = np.empty(1 << DIGIT, np.int32)
    source, target = np.empty(N, np.int64), np.empty(N, np.int64)
    while True:
        c = next_item(counter)
        if c >= items:
            break
        lowest, highest, count = int64(0x7FFFFFFF), int64(0), 0
        for i in range(c * N, (c + 1) * N):
            if radii[2 * i] > 0:
                key = int64(keys[i])
                source[count] = key << 32 | i
                count += 1
                lowest, highest = min(lowest, key), max(highest, key)
        counts[c] = count
        bits = 0
        while count > 0 and (highest - lowest) >> bits > 0:
            bits += 1
        passes = (bits + DIGIT - 1) // DIGIT
        digit = (bits + passes - 1) // max(passes, 1)
        buckets, lowest = int64(1) << digit, lowest << 32
        for sweep in range(passes):
            shift = 32 + sweep * digit
            for b in range(buckets):
                starts[b] = 0
            for j in range(count):
                starts[((source[j] - lowest) >> shift) & (buckets - 1)] += 1
            total = int32(0)
            for b in range(buckets):
                here = starts[b]
                starts[b] = total
                total += here
            for j in range(count):
                b = ((source[j] - lowest) >> shift) & (buckets - 1)
                target[starts[b]] = source[j]
                starts[b] += 1
            source, target = target, source
        for j in range(count):
            order[c * N + j] = source[j] & 0x7FFFFFFF


@device
def _box(boxes, start, across):
    """The first tile of a box, how many it is wide, and its area."""
    x0, y0 = at(boxes, start), at(boxes, start + 2)
    width = at(boxes, start + 1) - x0
    return y0 * across + x0, width, width * (at(boxes, start + 3) - y0)


@device
def _next_tile(tile, column, width, across):
    """The next tile of a box, row by row. One loop over the area and no branch: the end of each row cannot be predicted."""
    column += 1
    last = column == width
    return tile + 1 + (across - width if last else 0), 0 if last else column


@device
def _part(item, items, counts):
    """Camera, which part of its sorted Gaussians, and of how many."""
    parts = items // counts.size
    return item // parts, item % parts, parts


@kernel(f"void({COUNTER}, int64, {BOX}, {I1}, {I1}, int64, int64, {I2})")
def count_tiles(counter, items, boxes, order, counts, N, across, lengths):
    """How many Gaussians each tile gets of each part of its camera's sorted Gaussians: lengths [C*parts, tiles].

    An item is one part: with several to a camera, several threads can deal it out.
    """
    while True:
        item = next_item(counter)
        if item >= items:
            break
        c, part, parts = _part(item, items, counts)
        for t in range(lengths.shape[1]):
            lengths[item, t] = 0
        for j in range(c * N + counts[c] * part // parts, c * N + counts[c] * (part + 1) // parts):
            tile, width, area = _box(boxes, 4 * order[j], across)
            column = 0
            for _ in range(area):
                lengths[item, tile] += 1
                tile, column = _next_tile(tile, column, width, across)


@kernel(f"void({COUNTER}, int64, {BOX}, {I1}, {I1}, {I1}, {I2}, int64, int64, {I1}, {I1})")
def fill_tiles(counter, items, boxes, order, counts, first_edge, cursors, N, across, flatten_ids, edges):
    """Deal the sorted Gaussians out to the slots: flatten_ids (the index c*N+n) and edges.

    cursors [C*parts, tiles] are where in each tile's slots each part begins; they are moved.
    """
    while True:
        item = next_item(counter)
        if item >= items:
            break
        c, part, parts = _part(item, items, counts)
        for j in range(c * N + counts[c] * part // parts, c * N + counts[c] * (part + 1) // parts):
            i = order[j]
            edge, column = first_edge[i], 0
            tile, width, area = _box(boxes, 4 * i, across)
            for _ in range(area):
                slot = cursors[item, tile]
                cursors[item, tile] = slot + 1
                flatten_ids[slot] = i
                edges[slot] = edge
                edge += 1
                tile, column = _next_tile(tile, column, width, across)
