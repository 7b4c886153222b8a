"""The primitives of the tiny world and a sphere tracer for scenes of them, compiled with Numba.

All that is compiled stands here: what Numba keeps of a function knows of changes in the function's own file only.

A scene is an array `[P, 28]` of primitives, one row each:

    0       shape code (SPHERE, BOX, ...)
    1:4     center in world units
    4:13    rotation, row-major 3x3, world to primitive
    13:17   sizes, in world units (see `_distance`)
    17:20   color, display RGB in [0, 1]
    20      finish code (PLAIN, STRIPED, ...)
    21:24   second color, of stripes and dots
    24      period of the finish in world units
    25      radius in world units within which it melts into others of its thing; 0 is a sharp edge
    26      the thing that it is a part of, 0 or 1; no other scene has more
    27      1 if it has that thing's own color, 0 if its color is fixed, as wood and glass are

The light stands still in the world and shading does not depend on the view, so that a Gaussian splat with
spherical harmonics of degree 0 can represent every picture of the world exactly. It is never brighter than 1, so that
pictures are linear in the colors: what is traced are layers, one for each color of each thing, and a thing in another
color needs no second tracing.
"""

import math

import numba
import numpy as np

SPHERE, BOX, CYLINDER, CONE, TORUS, ELLIPSOID, DOME, FRUSTUM, PRISM = range(9)
PLAIN, STRIPED, DOTTED, MOTTLED, PLANKS, RIPPLED = range(6)
PRIMITIVE_WIDTH = 28

_LIGHT = (0.48, 0.34, 0.81)  # Unit vector towards the sun: in front of the object, on its left, above.
_MAX_STEPS = 64
_FAR = 1e9


@numba.njit(cache=True, fastmath=True)
def _distance(p, x, y, z):
    """Signed distance of a world point to one primitive row, or a bound that is smaller in size (ELLIPSOID, DOME, PRISM).

    Sizes: SPHERE (radius); BOX (half x, half y, half z, rounding); CYLINDER and CONE (radius, half height, rounding), axis z;
    TORUS (ring radius, tube radius), axis z; ELLIPSOID (radius x, y, z); DOME (radius x, y, z), the half of an ellipsoid
    above its center; FRUSTUM (lower radius, upper radius, half height, rounding), axis z; PRISM (half x, half y, height), a
    gable roof whose ridge runs along x, standing on its center. After the formulas collected by Inigo Quilez.
    """
    dx, dy, dz = x - p[1], y - p[2], z - p[3]
    x = p[4] * dx + p[5] * dy + p[6] * dz
    y = p[7] * dx + p[8] * dy + p[9] * dz
    z = p[10] * dx + p[11] * dy + p[12] * dz
    code = int(p[0])
    if code == SPHERE:
        return math.sqrt(x * x + y * y + z * z) - p[13]
    if code == BOX:
        r = p[16]
        qx, qy, qz = abs(x) - p[13] + r, abs(y) - p[14] + r, abs(z) - p[15] + r
        ox, oy, oz = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
        return math.sqrt(ox * ox + oy * oy + oz * oz) + min(max(qx, qy, qz), 0.0) - r
    if code == ELLIPSOID or code == DOME:
        ux, uy, uz = x / p[13], y / p[14], z / p[15]
        vx, vy, vz = ux / p[13], uy / p[14], uz / p[15]
        k0 = math.sqrt(ux * ux + uy * uy + uz * uz)
        k1 = max(math.sqrt(vx * vx + vy * vy + vz * vz), 1e-9)
        d = k0 * (k0 - 1.0) / k1
        return max(d, -z) if code == DOME else d
    if code == PRISM:
        slope = 1.0 / math.sqrt(p[14] * p[14] + p[15] * p[15])
        roof = (abs(y) * p[15] + (z - p[15]) * p[14]) * slope
        return max(roof, abs(x) - p[13], -z)
    rho = math.sqrt(x * x + y * y)
    if code == FRUSTUM:
        r = p[16]
        r1, r2, h = p[13] - r, p[14] - r, p[15] - r
        ax, az = rho - min(rho, r1 if z < 0.0 else r2), abs(z) - h
        k2x, k2z = r2 - r1, 2.0 * h
        u = min(max(((r2 - rho) * k2x + (h - z) * k2z) / (k2x * k2x + k2z * k2z), 0.0), 1.0)
        bx, bz = rho - r2 + k2x * u, z - h + k2z * u
        d = math.sqrt(min(ax * ax + az * az, bx * bx + bz * bz))
        return (-d if bx < 0.0 and az < 0.0 else d) - r
    if code == CYLINDER:
        r = p[15]
        qx, qz = rho - p[13] + r, abs(z) - p[14] + r
        ox, oz = max(qx, 0.0), max(qz, 0.0)
        return math.sqrt(ox * ox + oz * oz) + min(max(qx, qz), 0.0) - r
    if code == CONE:
        # Distance in the (rho, z) half plane to the triangle with apex (0, h) and base corner (radius, -h).
        r = p[15]
        radius, h = p[13] - r, p[14] - r
        ax, az = rho, z - h
        bx, bz = radius, -2.0 * h
        u = min(max((ax * bx + az * bz) / (bx * bx + bz * bz), 0.0), 1.0)
        cx, cz = ax - u * bx, az - u * bz
        side = math.sqrt(cx * cx + cz * cz)
        ex, ez = rho - min(rho, radius), z + h
        base = math.sqrt(ex * ex + ez * ez)
        inside = (ax * -bz + az * bx) < 0.0 and z > -h
        d = min(side, base)
        return (-d if inside else d) - r
    qx = rho - p[13]
    return math.sqrt(qx * qx + z * z) - p[14]


@numba.njit(cache=True, fastmath=True)
def _second_share(p, x, y, z, nx, ny, nz):
    """Share in [0, 1] of the second color where the surface of primitive `p` has the world point (x, y, z) and normal."""
    finish = int(p[20])
    if finish == PLAIN:
        return 0.0
    dx, dy, dz = x - p[1], y - p[2], z - p[3]
    x = (p[4] * dx + p[5] * dy + p[6] * dz) / p[24]
    y = (p[7] * dx + p[8] * dy + p[9] * dz) / p[24]
    z = (p[10] * dx + p[11] * dy + p[12] * dz) / p[24]
    if finish == STRIPED:
        return 1.0 if z - math.floor(z) < 0.5 else 0.0
    if finish == DOTTED:
        # Dots of a hexagonal lattice, seen along the axis that the surface faces most.
        ax = abs(p[4] * nx + p[5] * ny + p[6] * nz)
        ay = abs(p[7] * nx + p[8] * ny + p[9] * nz)
        az = abs(p[10] * nx + p[11] * ny + p[12] * nz)
        u, v = (y, z) if ax >= ay and ax >= az else (x, z) if ay >= az else (x, y)
        v /= 0.866
        row = math.floor(v + 0.5)
        u += 0.5 * (row - 2.0 * math.floor(row / 2.0))
        du, dv = u - math.floor(u + 0.5), 0.866 * (v - row)
        return 1.0 if du * du + dv * dv < 0.085 else 0.0
    if finish == PLANKS:
        board = math.floor(y)
        grain = math.sin(127.1 * board) * 43758.5453
        return 1.0 if y - board < 0.10 else 0.35 * (grain - math.floor(grain))
    if finish == RIPPLED:
        return 0.5 + 0.5 * math.sin(6.2832 * (x + 0.25 * math.sin(3.0 * y)))
    # MOTTLED: a random share for every cell.
    cell = 12.9898 * math.floor(x) + 78.233 * math.floor(y) + 37.719 * math.floor(z)
    noise = math.sin(cell) * 43758.5453
    return noise - math.floor(noise)


@numba.njit(cache=True, fastmath=True)
def _melt(a, b, k):
    """The smooth minimum of two distances: a polynomial that differs from the sharp one where they are within `k`.

    After Inigo Quilez, "smooth minimum", the quadratic one.
    """
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - 0.25 * k * h * h


@numba.njit(cache=True, fastmath=True)
def _nearest(prims, chosen, count, x, y, z):
    """Signed distance of a world point to the primitives `chosen[:count]`, which stand in order, and the nearest one's number."""
    best, index = _FAR, -1
    owner, melted, near, melted_index = -1.0, _FAR, _FAR, -1
    for j in range(count):
        i = chosen[j]
        d = _distance(prims[i], x, y, z)
        k = prims[i, 25]
        if k == 0.0:
            if d < best:
                best, index = d, i
        elif prims[i, 26] != owner:
            if melted < best:
                best, index = melted, melted_index
            owner, melted, near, melted_index = prims[i, 26], d, d, i
        else:
            melted = _melt(melted, d, k)
            if d < near:
                near, melted_index = d, i
    if melted < best:
        best, index = melted, melted_index
    return best, index


@numba.njit(cache=True, fastmath=True, nogil=True)
def fall(upper, lower, reach, columns):
    """How far scene `upper` [P, 28] can be let down before it meets scene `lower` [Q, 28]; `_FAR` where they never meet.

    Both are traced along `columns` squared vertical lines within `reach` of the Z axis, from the height of 4 on.
    """
    best = _FAR
    all_lower, all_upper = np.arange(lower.shape[0]), np.arange(upper.shape[0])
    for i in range(columns):
        for j in range(columns):
            x = reach * (2.0 * (i + 0.5) / columns - 1.0)
            y = reach * (2.0 * (j + 0.5) / columns - 1.0)
            top = _first_hit(lower, all_lower, x, y, 4.0, -1.0)
            if top < _FAR:
                bottom = _first_hit(upper, all_upper, x, y, -4.0, 1.0)
                if bottom < _FAR:
                    best = min(best, bottom - top)
    return best


@numba.njit(cache=True, fastmath=True, nogil=True)
def _first_hit(prims, all_prims, x, y, z, step):
    """Height of the first surface on the vertical line at (x, y) from z on, upwards (`step` 1) or downwards (-1)."""
    for _ in range(4 * _MAX_STEPS):
        d, _ = _nearest(prims, all_prims, len(all_prims), x, y, z)
        if d < 1e-3:
            return z
        z += step * d
        if abs(z) > 4.5:
            break
    return _FAR


@numba.njit(cache=True, fastmath=True, nogil=True)
def trace(prims, radii, viewmat, K, width, height, supersample, out):
    """Render one view into `out` `[height, width, 8]`, the layers of `rfgs.tinyworld.tracer`, all in [0, 1].

    `radii` `[P]` are those of balls about the primitives' centers that hold them, `viewmat` `[4, 4]` is world to camera
    (OpenCV), `K` `[3, 3]` is in pixels, `supersample` squared rays are averaged per pixel.
    """
    R = viewmat[:3, :3]
    ox = -(R[0, 0] * viewmat[0, 3] + R[1, 0] * viewmat[1, 3] + R[2, 0] * viewmat[2, 3])
    oy = -(R[0, 1] * viewmat[0, 3] + R[1, 1] * viewmat[1, 3] + R[2, 1] * viewmat[2, 3])
    oz = -(R[0, 2] * viewmat[0, 3] + R[1, 2] * viewmat[1, 3] + R[2, 2] * viewmat[2, 3])
    share = 1.0 / (supersample * supersample)
    count = prims.shape[0]
    everything = np.arange(count)
    near_ray = np.empty(count, np.int64)
    for row in range(height):
        for col in range(width):
            for sub in range(supersample * supersample):
                px = col + (sub % supersample + 0.5) / supersample
                py = row + (sub // supersample + 0.5) / supersample
                cx, cy = (px - K[0, 2]) / K[0, 0], (py - K[1, 2]) / K[1, 1]
                dx = R[0, 0] * cx + R[1, 0] * cy + R[2, 0]
                dy = R[0, 1] * cx + R[1, 1] * cy + R[2, 1]
                dz = R[0, 2] * cx + R[1, 2] * cy + R[2, 2]
                norm = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
                dx, dy, dz = dx * norm, dy * norm, dz * norm
                # Only the primitives whose ball the ray meets are asked for their distance, and only within those balls.
                candidates = 0
                t, t_end = _FAR, 0.0
                for i in range(count):
                    qx, qy, qz = prims[i, 1] - ox, prims[i, 2] - oy, prims[i, 3] - oz
                    along = qx * dx + qy * dy + qz * dz
                    inside = radii[i] * radii[i] - (qx * qx + qy * qy + qz * qz - along * along)
                    if inside > 0.0:
                        half = math.sqrt(inside)
                        t, t_end = min(t, along - half), max(t_end, along + half)
                        near_ray[candidates] = i
                        candidates += 1
                t = max(t, 0.0)
                hit = -1
                for _ in range(_MAX_STEPS):
                    if t > t_end:
                        break
                    d, index = _nearest(prims, near_ray, candidates, ox + t * dx, oy + t * dy, oz + t * dz)
                    if d < 1e-3:
                        hit = index
                        break
                    t += d
                if hit < 0:
                    continue
                x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                e = 2e-3
                p = prims[hit]
                if p[25] == 0.0:
                    nx = _distance(p, x + e, y, z) - _distance(p, x - e, y, z)
                    ny = _distance(p, x, y + e, z) - _distance(p, x, y - e, z)
                    nz = _distance(p, x, y, z + e) - _distance(p, x, y, z - e)
                else:
                    nx = _nearest(prims, near_ray, candidates, x + e, y, z)[0]
                    nx -= _nearest(prims, near_ray, candidates, x - e, y, z)[0]
                    ny = _nearest(prims, near_ray, candidates, x, y + e, z)[0]
                    ny -= _nearest(prims, near_ray, candidates, x, y - e, z)[0]
                    nz = _nearest(prims, near_ray, candidates, x, y, z + e)[0]
                    nz -= _nearest(prims, near_ray, candidates, x, y, z - e)[0]
                norm = 1.0 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
                nx, ny, nz = nx * norm, ny * norm, nz * norm
                # Occlusion by the rest of the scene: how much nearer than expected the surface is along the normal.
                near, _ = _nearest(prims, everything, count, x + 0.15 * nx, y + 0.15 * ny, z + 0.15 * nz)
                open_sky = min(max(near / 0.15, 0.0), 1.0)
                sun = max(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2], 0.0)
                # Where a surface looks between sun and sky the sum is 1.0025.
                light = share * min((0.50 + 0.12 * nz) * (0.55 + 0.45 * open_sky) + 0.40 * sun, 1.0)
                second = _second_share(p, x, y, z, nx, ny, nz)
                pixel = out[row, col]
                if p[27] > 0.0:
                    own = 2 * int(p[26])
                    pixel[own] += (1.0 - second) * light
                    pixel[own + 1] += second * light
                else:
                    for c in range(3):
                        pixel[4 + c] += (p[17 + c] + second * (p[21 + c] - p[17 + c])) * light
                pixel[7] += share
