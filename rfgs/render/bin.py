"""Which Gaussians touch which tile, front to back.

Three kernels: `pack_records` makes one cache line of everything that the compositor reads of a Gaussian and finds the
tiles of its exact ellipse; `sort_by_depth` orders each camera's Gaussians; `fill_tiles` deals them out to the tiles.
Sorting N depths and dealing in order is cheaper than gsplat's sort of (tile, depth) keys, and gives the same order:
by depth, ties by index.

An *edge* is one (Gaussian, tile) pair, numbered Gaussian by Gaussian; a *slot* is the same pair's place in the tiles'
lists. Gradients are gathered per edge, so that threads never add to the same number.
"""

import math

import numpy as np
from numba import float32, int32

from .jit import COUNTER, F1, F2, F3, I1, I2, kernel
from .simd import next_item

TILE = 16
RECORD = 16  # floats: mean x, y; conic xx/2, xy, yy/2; opacity; 4 channels; ellipse: slope, 1/xx, det/xx, reach; 2 free
CHUNK = 512
DIGIT = 11


@kernel(
    f"void({COUNTER}, int64, {F2}, {F2}, float32[:,:], float32[:,:,:], {I2}, int64, int64, int64, {F2}, {I2}, {I1})"
)
def pack_records(counter, items, means2d, conics, opacities, colors, radii, N, width, height, records, boxes, tiles):
    """means2d [C*N,2], conics [C*N,3], opacities [C,N], colors [C,N,1..4] -> records [C*N,16], boxes [C*N,4], tiles [C*N].

    boxes are tile ranges x0, x1, y0, y1 (ends excluded), tiles their areas; 0 for Gaussians that touch no pixel centre.
    """
    total, channels = means2d.shape[0], colors.shape[2]
    while True:
        item = next_item(counter)
        if item >= items:
            break
        for i in range(item * CHUNK, min(total, (item + 1) * CHUNK)):
            tiles[i] = 0
            if radii[i, 0] <= 0:
                continue
            c = i // N
            n = i - c * N
            mx, my = means2d[i, 0], means2d[i, 1]
            A, B, D = conics[i, 0], conics[i, 1], conics[i, 2]
            opacity = opacities[c, n]
            det = A * D - B * B
            if not (opacity >= float32(1.0 / 255.0) and det > 0.0 and A > 0.0):
                continue
            # alpha >= 1/255 inside the ellipse d' conic d <= reach; a hair is added, for the compositor decides.
            reach = float32(2.0) * math.log(float32(255.0) * opacity) + float32(1e-3)
            half_x = math.sqrt(reach * D / det) + float32(1e-2)
            half_y = math.sqrt(reach * A / det) + float32(1e-2)
            # Pixel j has its centre at j + 0.5; compare before converting, for floats may exceed any integer.
            x0 = max(math.ceil(mx - half_x - float32(0.5)), float32(0.0))
            x1 = min(math.floor(mx + half_x - float32(0.5)), float32(width - 1))
            y0 = max(math.ceil(my - half_y - float32(0.5)), float32(0.0))
            y1 = min(math.floor(my + half_y - float32(0.5)), float32(height - 1))
            if not (x0 <= x1 and y0 <= y1):
                continue
            tx0, tx1, ty0, ty1 = int(x0) // TILE, int(x1) // TILE + 1, int(y0) // TILE, int(y1) // TILE + 1
            boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = tx0, tx1, ty0, ty1
            tiles[i] = (tx1 - tx0) * (ty1 - ty0)
            record = records[i]
            record[0], record[1] = mx, my
            record[2], record[3], record[4] = float32(0.5) * A, B, float32(0.5) * D
            record[5] = opacity
            for k in range(4):
                record[6 + k] = colors[c, n, k] if k < channels else float32(0.0)
            inv = float32(1.0) / A
            record[10], record[11], record[12], record[13] = B * inv, inv, det * inv, reach


@kernel(f"void({COUNTER}, int64, {I1}, {I1}, int64, {I1}, {I1})")
def sort_by_depth(counter, items, keys, tiles, N, order, counts):
    """The indices c*N+n of each camera's visible Gaussians into order[c*N:], nearest first; how many into counts [C].

    keys [C*N] are the bits of the (positive) depths. A radix sort from the lowest digit on, over the bits in which the
    keys differ; stable, so that equal depths stay in order of index.
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
            starts[:] = 0
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
        order[c * N : c * N + count] = source[:count]


@kernel(f"void({COUNTER}, int64, {I2}, {I1}, {I1}, int64, int64, {I2})")
def count_tiles(counter, items, boxes, order, counts, N, across, lengths):
    """How many Gaussians each tile of each camera holds: lengths [C, tiles]."""
    while True:
        c = next_item(counter)
        if c >= items:
            break
        lengths[c, :] = 0
        for j in range(c * N, c * N + counts[c]):
            i = order[j]
            for ty in range(boxes[i, 2], boxes[i, 3]):
                for tx in range(boxes[i, 0], boxes[i, 1]):
                    lengths[c, ty * across + tx] += 1


@kernel(f"void({COUNTER}, int64, {I2}, {I1}, {I1}, {I1}, {I1}, int64, int64, {I1}, {I1})")
def fill_tiles(counter, items, boxes, order, counts, first_edge, starts, N, across, flatten_ids, edges):
    """Deal the sorted Gaussians out: slot lists flatten_ids (index c*N+n) and edges, tile t of camera c from starts[c*tiles+t] on."""
    per_camera = (starts.size - 1) // items
    while True:
        c = next_item(counter)
        if c >= items:
            break
        cursor = starts[c * per_camera : (c + 1) * per_camera].copy()
        for j in range(c * N, c * N + counts[c]):
            i = order[j]
            edge = first_edge[i]
            for ty in range(boxes[i, 2], boxes[i, 3]):
                for tx in range(boxes[i, 0], boxes[i, 1]):
                    slot = cursor[ty * across + tx]
                    cursor[ty * across + tx] = slot + 1
                    flatten_ids[slot] = i
                    edges[slot] = edge
                    edge += 1
