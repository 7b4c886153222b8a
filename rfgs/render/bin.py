"""Which Gaussians touch which tile, front to back.

Three kernels: `pack_records` makes one cache line of everything that the compositor reads of a Gaussian and finds the
tiles of its exact ellipse; `sort_by_depth` orders each camera's Gaussians; `fill_tiles` deals them out to the tiles.
Sorting N depths and dealing in order is cheaper than gsplat's sort of (tile, depth) keys, and gives the same order:
by depth, ties by index.

An *edge* is one (Gaussian, tile) pair, numbered Gaussian by Gaussian; a *slot* is the same pair's place in the tiles'
lists. Gradients are gathered per edge, so that threads never add to the same number.
"""

import numpy as np
from numba import float32, int32

from .jit import COUNTER, F1, I1, I2, kernel
from .memory import gather, next_item, scatter
from .simd import ceil, floor, log, maximum, minimum, select, sqrt

TILE = 16
RECORD = 16  # floats: mean x, y; conic xx/2, xy, yy/2; opacity; 4 channels; ellipse: slope, 1/xx, det/xx, reach; 2 free
CHUNK = 512
DIGIT = 11


@kernel(f"void({COUNTER}, int64, {F1}, {F1}, {F1}, float32[:,:,:], {I1}, int64, int64, int64, {F1}, {I1}, {I1})")
def pack_records(counter, items, means2d, conics, opacities, colors, radii, N, width, height, records, boxes, tiles):
    """Flat means2d [C,N,2], conics [C,N,3], opacities [C or 1,N], radii [C,N,2] and colors [C or 1,N,1..4] -> records
    [C*N,16], boxes [C*N,4] and tiles [C*N], flat. An item is CHUNK Gaussians of one camera.

    boxes are ranges of tiles x0, x1, y0, y1 (ends excluded), tiles their areas; 0 for Gaussians that touch no pixel centre.
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
            D, opacity = gather(conics, 3 * i + 2, 3, last), gather(opacities, i if opacities.size > N else n, 1, last)
            det = A * D - B * B
            seen = (gather(radii, 2 * i, 2, last) > 0.0) & (opacity >= float32(1.0 / 255.0)) & (det > 0.0) & (A > 0.0)
            # alpha >= 1/255 inside the ellipse d' conic d <= reach; a hair is added, for the compositor decides.
            reach = 2.0 * log(maximum(opacity * 255.0, 1.0)) + 1e-3
            inv_A, inv_det = 1.0 / A, 1.0 / det
            half_x, half_y = sqrt(reach * D * inv_det) + 1e-2, sqrt(reach * A * inv_det) + 1e-2
            # Pixel j has its centre at j + 0.5.
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
def sort_by_depth(counter, items, keys, tiles, N, order, counts):
    """The indices c*N+n of each camera's visible Gaussians into order[c*N:], nearest first; how many into counts [C].

    keys [C*N] are the bits of the (positive) depths. A radix sort from the lowest digit on, over the bits in which the
    keys differ; stable, so that equal depths stay in order of index.
    (Loops, not slices: Numba takes seconds to compile a slice assignment.)
    """
    buckets = 1 << DIGIT
    while True:
        c = next_item(counter)
        if c >= items:
            break
        source, target = np.empty(N, np.int32), np.empty(N, np.int32)
        lowest, highest, count = int32(0x7FFFFFFF), int32(0), 0
        for i in range(c * N, (c + 1) * N):
            if tiles[i] > 0:
                source[count] = i
                count += 1
                lowest, highest = min(lowest, keys[i]), max(highest, keys[i])
        counts[c] = count
        shift, span = 0, highest - lowest
        starts = np.empty(buckets, np.int32)
        while count > 0 and (span >> shift) > 0:
            for b in range(buckets):
                starts[b] = 0
            for j in range(count):
                starts[((keys[source[j]] - lowest) >> shift) & (buckets - 1)] += 1
            total = int32(0)
            for b in range(buckets):
                here = starts[b]
                starts[b] = total
                total += here
            for j in range(count):
                b = ((keys[source[j]] - lowest) >> shift) & (buckets - 1)
                target[starts[b]] = source[j]
                starts[b] += 1
            source, target = target, source
            shift += DIGIT
        for j in range(count):
            order[c * N + j] = source[j]


@kernel(f"void({COUNTER}, int64, {I1}, {I1}, int64, int64, {I2})")
def count_tiles(counter, items, boxes, tiles, N, across, lengths):
    """How many Gaussians each tile of each camera holds: lengths [C, tiles]."""
    while True:
        c = next_item(counter)
        if c >= items:
            break
        for t in range(lengths.shape[1]):
            lengths[c, t] = 0
        for i in range(c * N, (c + 1) * N):
            if tiles[i] > 0:
                for ty in range(boxes[4 * i + 2], boxes[4 * i + 3]):
                    for tx in range(boxes[4 * i], boxes[4 * i + 1]):
                        lengths[c, ty * across + tx] += 1


@kernel(f"void({COUNTER}, int64, {I1}, {I1}, {I1}, {I1}, {I1}, int64, int64, {I1}, {I1})")
def fill_tiles(counter, items, boxes, order, counts, first_edge, starts, N, across, flatten_ids, edges):
    """Deal the sorted Gaussians out to the slots: flatten_ids (the index c*N+n) and edges.

    The slots of tile t of camera c begin at starts[c * tiles + t].
    """
    per_camera = (starts.size - 1) // items
    cursor = np.empty(per_camera, np.int32)
    while True:
        c = next_item(counter)
        if c >= items:
            break
        for t in range(per_camera):
            cursor[t] = starts[c * per_camera + t]
        for j in range(c * N, c * N + counts[c]):
            i = order[j]
            edge = first_edge[i]
            for ty in range(boxes[4 * i + 2], boxes[4 * i + 3]):
                for tx in range(boxes[4 * i], boxes[4 * i + 1]):
                    slot = cursor[ty * across + tx]
                    cursor[ty * across + tx] = slot + 1
                    flatten_ids[slot] = i
                    edges[slot] = edge
                    edge += 1
