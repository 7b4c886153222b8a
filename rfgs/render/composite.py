"""Alpha compositing of binned Gaussians: the kernels, forward and backward.

A tile of 16 x 16 pixels is 32 blocks of 4 x 2, and a block is one `V8`. For each (Gaussian, tile) a bit mask says which
blocks the ellipse reaches; each block then walks its own list with all its state in registers. Compared with walking
rows of the image per Gaussian, nothing is stored and reloaded between two Gaussians, and the small ones that a 64- or
128-pixel image is made of waste fewer lanes.

Transmittance needs no "pixel is done" flag. Let P be the running product of 1 - alpha. gsplat stops a pixel at the first
Gaussian that would bring it to P <= 1e-4, and leaves that one out; as P never grows, "P > 1e-4" is that rule.

The innermost loops work one Gaussian ahead: its alpha takes a long chain of operations that depend on nothing in the
loop, and the processor can only fill the waits of one chain with another that is near in the program.
"""

import numpy as np
from numba import float32

from .access import CHUNK, at, load, next_item, store
from .bin import RECORD, TILE
from .blocks import BLOCKS, alpha_at, block_mask, deal, dot, fetch
from .jit import COUNTER, F1, F2, I1, device, kernel
from .simd import absolute, bits, fma, lane, lane_sum, lane_sums, offsets_4x2, select, splat

GRADS = 12  # floats per edge: sums of g, g dx, g dy, g dx dx, g dx dy, g dy dy, 4 channels, |g ...| x and y


@device
def _tile(item, tiles, across, starts):
    """Camera, left and top pixel, and first and last slot of a tile."""
    tile = item % tiles
    return item // tiles, tile % across * TILE, tile // across * TILE, starts[item], starts[item + 1]


@kernel(
    f"void({COUNTER}, int64, {F1}, {I1}, {I1}, int64[::1], int64, int64, int64, int64, int64, float32, {F2}, {F1}, {F1})"
)
def composite_forward(
    counter, items, records, flatten_ids, starts, masks, longest, across, tiles, width, height, max_alpha,
    backgrounds, colors, alphas,
):  # fmt: skip
    """Flat colors [C,H,W,D], alphas [C,H,W] and the slots' block masks out; backgrounds [C,D], D = 1..4.

    An item is one tile of one camera.
    """
    D = backgrounds.shape[1]
    near = np.empty(longest * RECORD, np.float32)
    lists, lengths = np.empty((BLOCKS, longest + 1), np.int32), np.empty(BLOCKS, np.uint32)
    while True:
        item = next_item(counter)
        if item >= items:
            break
        camera, left, top, start, stop = _tile(item, tiles, across, starts)
        fetch(records, flatten_ids, start, stop, near)
        for slot in range(start, stop):
            masks[slot] = block_mask(near, (slot - start) * RECORD, float32(left), float32(top))
        deal(masks, start, stop, lists, lengths)
        for block in range(BLOCKS):
            x0, y0 = left + 4 * (block // 8), top + 2 * (block % 8)
            if x0 >= width or y0 >= height:
                continue
            px, py = (
                offsets_4x2(0) + (float32(x0) + float32(0.5)),
                offsets_4x2(1) + (float32(y0) + float32(0.5)),
            )
            P, T = splat(1.0), splat(1.0)
            c0, c1, c2, c3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            r_next = lists[block, 0]
            _, alpha_next = alpha_at(
                near, r_next, at(near, r_next) - px, at(near, r_next + 1) - py, max_alpha
            )
            for k in range(lengths[block]):
                r, alpha = r_next, alpha_next
                r_next = lists[block, k + 1]
                _, alpha_next = alpha_at(
                    near, r_next, at(near, r_next) - px, at(near, r_next + 1) - py, max_alpha
                )
                after = P * (1.0 - alpha)
                open_ = after > float32(1e-4)
                weight = select(open_, P * alpha, 0.0)
                c0, c1 = fma(weight, at(near, r + 6), c0), fma(weight, at(near, r + 7), c1)
                c2, c3 = fma(weight, at(near, r + 8), c2), fma(weight, at(near, r + 9), c3)
                T = select(open_, after, T)
                P = after
                if bits(open_) == 0:
                    break
            for j in range(8):
                x, y = x0 + j % 4, y0 + j // 4
                if x < width and y < height:
                    pixel = (camera * height + y) * width + x
                    t = lane(T, j)
                    alphas[pixel] = float32(1.0) - t
                    colors[pixel * D] = lane(c0, j) + t * backgrounds[camera, 0]
                    if D > 1:
                        colors[pixel * D + 1] = lane(c1, j) + t * backgrounds[camera, 1]
                    if D > 2:
                        colors[pixel * D + 2] = lane(c2, j) + t * backgrounds[camera, 2]
                    if D > 3:
                        colors[pixel * D + 3] = lane(c3, j) + t * backgrounds[camera, 3]


@kernel(
    f"void({COUNTER}, int64, {F1}, {I1}, {I1}, {I1}, int64[::1], int64, int64, int64, int64, int64, float32, int64, "
    f"{F1}, {F1}, {F1}, {F1}, boolean, {F1})"
)
def composite_backward(
    counter, items, records, flatten_ids, edges, starts, masks, longest, across, tiles, width, height, max_alpha, D,
    colors, alphas, v_colors, v_alphas, absgrad, sums,
):  # fmt: skip
    """sums [edges, 12] out, from the forward's outputs and the gradients by them; every edge is written once.

    Front to back again. With d = color . v_color of one Gaussian, the pixel's share of the loss is
    sum_i d_i alpha_i T_i + T_end (background . v_color - v_alpha); the part behind Gaussian i is the total, known from
    the outputs, less what has been passed, and its derivative by alpha_i is T_i d_i - behind_i / (1 - alpha_i).
    """
    near = np.empty(longest * RECORD, np.float32)
    lists, lengths = np.empty((BLOCKS, longest + 1), np.int32), np.empty(BLOCKS, np.uint32)
    local = np.empty(longest * RECORD, np.float32)  # per slot: 8 sums, and channel 2 still in 8 lanes
    rare = np.empty(longest * 4, np.float32)  # per slot: unused, channel 3, |g ...| x and y
    pixels = np.empty(6 * 8, np.float32)
    while True:
        item = next_item(counter)
        if item >= items:
            break
        camera, left, top, start, stop = _tile(item, tiles, across, starts)
        if start == stop:
            continue
        fetch(records, flatten_ids, start, stop, near)
        deal(masks, start, stop, lists, lengths)
        for k in range((stop - start) * RECORD):
            local[k] = float32(0.0)
        for k in range((stop - start) * 4):
            rare[k] = float32(0.0)
        for block in range(BLOCKS):
            x0, y0 = left + 4 * (block // 8), top + 2 * (block % 8)
            if lengths[block] == 0 or x0 >= width or y0 >= height:
                continue
            _read_pixels(pixels, camera, x0, y0, width, height, D, colors, alphas, v_colors, v_alphas)
            v0, v1, v2, v3 = load(pixels, 0), load(pixels, 8), load(pixels, 16), load(pixels, 24)
            behind = load(pixels, 32)
            px, py = (
                offsets_4x2(0) + (float32(x0) + float32(0.5)),
                offsets_4x2(1) + (float32(y0) + float32(0.5)),
            )
            P = load(pixels, 40)
            r_next = lists[block, 0]
            dx_next, dy_next = at(near, r_next) - px, at(near, r_next + 1) - py
            raw_next, alpha_next = alpha_at(near, r_next, dx_next, dy_next, max_alpha)
            d_next = dot(near, r_next, v0, v1, v2, v3)
            for k in range(lengths[block]):
                r, dx, dy, raw, alpha, d = r_next, dx_next, dy_next, raw_next, alpha_next, d_next
                r_next = lists[block, k + 1]
                dx_next, dy_next = at(near, r_next) - px, at(near, r_next + 1) - py
                raw_next, alpha_next = alpha_at(near, r_next, dx_next, dy_next, max_alpha)
                d_next = dot(near, r_next, v0, v1, v2, v3)
                after = P * (1.0 - alpha)
                inverse = 1.0 / (1.0 - alpha)
                open_ = after > float32(1e-4)
                weight = select(open_, P * alpha, 0.0)
                behind = behind - weight * d
                v_alpha = P * d - behind * inverse
                # A clamped alpha passes no gradient on.
                g = select(open_ & (alpha > 0.0) & (raw <= max_alpha), raw * v_alpha, 0.0)
                gx, gy = g * dx, g * dy
                store(local, r, load(local, r) + lane_sums(
                    g, gx, gy, gx * dx, gx * dy, gy * dy, weight * v0, weight * v1,
                ))  # fmt: skip
                store(local, r + 8, load(local, r + 8) + weight * v2)
                if D > 3:
                    rare[r // 4 + 1] += lane_sum(weight * v3)
                if absgrad:
                    A, B, C = 2.0 * at(near, r + 2), at(near, r + 3), 2.0 * at(near, r + 4)
                    rare[r // 4 + 2] += lane_sum(absolute(A * gx + B * gy))
                    rare[r // 4 + 3] += lane_sum(absolute(B * gx + C * gy))
                P = after
                if bits(open_) == 0:
                    break
        for slot in range(start, stop):
            r, row = (slot - start) * RECORD, edges[slot] * GRADS
            store(sums, row, load(local, r))
            sums[row + 8] = lane_sum(load(local, r + 8))
            for k in range(1, 4):
                sums[row + 8 + k] = rare[r // 4 + k]


@device
def _read_pixels(pixels, camera, x0, y0, width, height, D, colors, alphas, v_colors, v_alphas):
    """A block's gradients by 4 channels, the loss behind its first Gaussian, and P = 1 (0 outside the image), 8 each."""
    for k in range(pixels.size):
        pixels[k] = float32(0.0)
    for j in range(8):
        x, y = x0 + j % 4, y0 + j // 4
        if x < width and y < height:
            pixel = (camera * height + y) * width + x
            total = (alphas[pixel] - float32(1.0)) * v_alphas[pixel]
            for k in range(D):
                v = v_colors[pixel * D + k]
                pixels[8 * k + j] = v
                total += colors[pixel * D + k] * v
            pixels[32 + j] = total
            pixels[40 + j] = float32(1.0)


@kernel(f"void({COUNTER}, int64, {F1}, {I1}, {I1}, {F1}, int64, int64, int64, {F2}, {F2}, {F1}, {F2}, {F2})")
def gather_gradients(
    counter,
    items,
    sums,
    first_edge,
    tiles,
    records,
    N,
    C,
    D,
    v_means2d,
    v_conics,
    v_opacities,
    v_colors,
    v_abs,
):
    """Add up each Gaussian's edges: gradients by means2d [C*N,2], conics [C*N,3], opacities [C*N or N], colors [C*N or N,D]
    and, where that is not empty, absgrad [C*N,2]. Opacities and colors that all cameras share get the sum over cameras.
    """
    while True:
        item = next_item(counter)
        if item >= items:
            break
        for n in range(item * CHUNK, min(N, (item + 1) * CHUNK)):
            for c in range(C):
                i = c * N + n
                total, s8, s9, s10, s11 = splat(0.0), float32(0.0), float32(0.0), float32(0.0), float32(0.0)
                opacity = float32(1.0)
                A = B = D2 = float32(0.0)
                if tiles[i] > 0:
                    r = i * RECORD
                    A, B, D2, opacity = (
                        2.0 * at(records, r + 2),
                        at(records, r + 3),
                        2.0 * at(records, r + 4),
                        at(records, r + 5),
                    )
                    for edge in range(first_edge[i], first_edge[i] + tiles[i]):
                        row = edge * GRADS
                        total = total + load(sums, row)
                        s8 += sums[row + 8]
                        s9 += sums[row + 9]
                        s10 += sums[row + 10]
                        s11 += sums[row + 11]
                gx, gy = lane(total, 1), lane(total, 2)
                v_means2d[i, 0], v_means2d[i, 1] = -(A * gx + B * gy), -(B * gx + D2 * gy)
                v_conics[i, 0], v_conics[i, 1] = float32(-0.5) * lane(total, 3), -lane(total, 4)
                v_conics[i, 2] = float32(-0.5) * lane(total, 5)
                if v_abs.size > 0:
                    v_abs[i, 0], v_abs[i, 1] = s10, s11
                row = n if v_opacities.size == N else i
                v_opacities[row] = lane(total, 0) / opacity + (v_opacities[row] if row != i else float32(0.0))
                row = n if v_colors.shape[0] == N else i
                for k in range(D):
                    before = v_colors[row, k] if row != i else float32(0.0)
                    v_colors[row, k] = before + (lane(total, 6 + k) if k < 2 else s8 if k == 2 else s9)
