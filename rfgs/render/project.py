"""Projection of 3D Gaussians to 2D, all cameras at once: the kernels.

The mathematics of EWA splatting (Zwicker et al. 2001) as in gsplat: with V = J W R(q) diag(s) [2, 3], the image
covariance is V V^T + eps2d I. Eight Gaussians at a time; the quaternion's part is computed once for all cameras.
"""

from numba import float32

from .access import CHUNK, gather, next_item, scatter
from .jit import COUNTER, F1, I1, device, kernel
from .simd import absolute, ceil, fma, log, maximum, minimum, select, splat, sqrt


@device
def _rotation(w, x, y, z):
    """The nine entries of the rotation matrix of a unit quaternion, row by row."""
    return (
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip


@device
def _gaussians(means, quats, scales, i, N):
    """Eight Gaussians from the i-th on: how many of them there are less one, their means and scales, their unit quaternions,
    and one over what the lengths of those were."""
    last = min(7, N - 1 - i)
    w, x = gather(quats, 4 * i, 4, last), gather(quats, 4 * i + 1, 4, last)
    y, z = gather(quats, 4 * i + 2, 4, last), gather(quats, 4 * i + 3, 4, last)
    inv = 1.0 / maximum(sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return (
        last,
        gather(means, 3 * i, 3, last), gather(means, 3 * i + 1, 3, last), gather(means, 3 * i + 2, 3, last),
        gather(scales, 3 * i, 3, last), gather(scales, 3 * i + 1, 3, last), gather(scales, 3 * i + 2, 3, last),
        w * inv, x * inv, y * inv, z * inv, inv,
    )  # fmt: skip


@device
def _view(viewmats, v):
    """Three rows of the view matrix that begins at v."""
    return (
        viewmats[v], viewmats[v + 1], viewmats[v + 2], viewmats[v + 3],
        viewmats[v + 4], viewmats[v + 5], viewmats[v + 6], viewmats[v + 7],
        viewmats[v + 8], viewmats[v + 9], viewmats[v + 10], viewmats[v + 11],
    )  # fmt: skip


@device
def _row(
    j, slope, w0, w1, w2, w20, w21, w22, s0, s1, s2, r00, r01, r02, r10, r11, r12, r20, r21, r22
):  # fmt: skip
    """The focal length over z, a row of T = J W, and that of V = T R diag(s)."""
    a0, a1, a2 = j * (w0 - slope * w20), j * (w1 - slope * w21), j * (w2 - slope * w22)
    p0, p1, p2 = (
        _dot(a0, a1, a2, r00, r10, r20),
        _dot(a0, a1, a2, r01, r11, r21),
        _dot(a0, a1, a2, r02, r12, r22),
    )
    return j, a0, a1, a2, s0 * p0, s1 * p1, s2 * p2


@device
def _dot(a0, a1, a2, b0, b1, b2):
    return fma(a0, b0, fma(a1, b1, a2 * b2))


@device
def _clamped_slopes(x, y, z, fx, fy, cx, cy, width, height):
    """1/z, and x/z and y/z kept within 30 % outside the image, where the linearization J would be meaningless."""
    inv_z = 1.0 / z
    margin_x, margin_y = float32(0.15) * width / fx, float32(0.15) * height / fy
    sx = minimum(maximum(x * inv_z, -(cx / fx + margin_x)), (width - cx) / fx + margin_x)
    sy = minimum(maximum(y * inv_z, -(cy / fy + margin_y)), (height - cy) / fy + margin_y)
    return inv_z, sx, sy


@kernel(
    f"void({COUNTER}, int64, {F1}, {F1}, {F1}, {F1}, {F1}, {F1}, int64, int64, float32, float32, float32, float32, "
    f"float32, float32, boolean, {I1}, {F1}, {F1}, {F1}, {F1})"
)
def project_forward(
    counter, items, means, quats, scales, opacities, viewmats, Ks, N, C, width, height, near, far,
    radius_clip, eps2d, antialiased, radii, means2d, depths, conics, compensations,
):  # fmt: skip
    """Flat views of gsplat's arrays in; radii [C,N,2], means2d [C,N,2], depths [C,N], conics [C,N,3] and, if
    antialiased, compensations [C,N] out.

    Culled Gaussians get radii 0 and zeros elsewhere.
    """
    while True:
        item = next_item(counter)
        if item >= items:
            break
        for i in range(item * CHUNK, min(N, (item + 1) * CHUNK), 8):
            last, X, Y, Z, s0, s1, s2, qw, qx, qy, qz, _ = _gaussians(means, quats, scales, i, N)
            r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(qw, qx, qy, qz)
            opacity = gather(opacities, i, 1, last)
            reach = 2.0 * log(maximum(opacity * 255.0, 1.0))
            for c in range(C):
                w00, w01, w02, t0, w10, w11, w12, t1, w20, w21, w22, t2 = _view(viewmats, 16 * c)
                fx, cx, fy, cy = Ks[9 * c], Ks[9 * c + 2], Ks[9 * c + 4], Ks[9 * c + 5]
                x = _dot(w00, w01, w02, X, Y, Z) + t0
                y = _dot(w10, w11, w12, X, Y, Z) + t1
                z = _dot(w20, w21, w22, X, Y, Z) + t2
                seen = (z >= near) & (z <= far)
                inv_z, sx, sy = _clamped_slopes(x, y, z, fx, fy, cx, cy, width, height)
                j0, a0, a1, a2, p0, p1, p2 = _row(fx * inv_z, sx, w00, w01, w02, w20, w21, w22, s0, s1, s2,
                    r00, r01, r02, r10, r11, r12, r20, r21, r22)  # fmt: skip
                j1, b0, b1, b2, q0, q1, q2 = _row(fy * inv_z, sy, w10, w11, w12, w20, w21, w22, s0, s1, s2,
                    r00, r01, r02, r10, r11, r12, r20, r21, r22)  # fmt: skip
                cov_xx, cov_yy = _dot(p0, p1, p2, p0, p1, p2), _dot(q0, q1, q2, q0, q1, q2)
                cov_xy = _dot(p0, p1, p2, q0, q1, q2)
                # det(V V^T) as |p x q|^2: the difference of products would cancel for thin Gaussians.
                n0, n1, n2 = p1 * q2 - p2 * q1, p2 * q0 - p0 * q2, p0 * q1 - p1 * q0
                sharp = _dot(n0, n1, n2, n0, n1, n2)
                det = sharp + eps2d * (cov_xx + cov_yy + eps2d)
                cov_xx, cov_yy, inv_det = cov_xx + eps2d, cov_yy + eps2d, 1.0 / det
                seen = seen & (det > 0.0)
                u, w = fx * x * inv_z + cx, fy * y * inv_z + cy
                out = c * N + i
                if antialiased:
                    compensation = sqrt(sharp * inv_det)
                    dimmed = opacity * compensation
                    seen = seen & (dimmed >= float32(1.0 / 255.0))
                    extent2 = 2.0 * log(maximum(dimmed * 255.0, 1.0))
                    scatter(compensations, out, 1, last, select(seen, compensation, 0.0))
                else:
                    seen = seen & (opacity >= float32(1.0 / 255.0))
                    extent2 = reach
                extent = minimum(sqrt(extent2), float32(3.33))
                rx, ry = ceil(extent * sqrt(cov_xx)), ceil(extent * sqrt(cov_yy))
                seen = seen & (maximum(rx, ry) > radius_clip)
                seen = seen & (u + rx > 0.0) & (u - rx < width) & (w + ry > 0.0) & (w - ry < height)
                scatter(radii, 2 * out, 2, last, select(seen, minimum(rx, 1e9), 0.0))
                scatter(radii, 2 * out + 1, 2, last, select(seen, minimum(ry, 1e9), 0.0))
                scatter(means2d, 2 * out, 2, last, select(seen, u, 0.0))
                scatter(means2d, 2 * out + 1, 2, last, select(seen, w, 0.0))
                scatter(depths, out, 1, last, select(seen, z, 0.0))
                scatter(conics, 3 * out, 3, last, select(seen, cov_yy * inv_det, 0.0))
                scatter(conics, 3 * out + 1, 3, last, select(seen, -cov_xy * inv_det, 0.0))
                scatter(conics, 3 * out + 2, 3, last, select(seen, cov_xx * inv_det, 0.0))


@kernel(
    f"void({COUNTER}, int64, {F1}, {F1}, {F1}, {F1}, {F1}, int64, int64, float32, float32, float32, boolean, "
    f"{I1}, {F1}, {F1}, {F1}, {F1}, {F1}, {F1}, {F1}, {F1}, {F1})"
)
def project_backward(
    counter, items, means, quats, scales, viewmats, Ks, N, C, width, height, eps2d, antialiased,
    radii, conics, compensations, v_means2d, v_depths, v_conics, v_compensations, v_means, v_quats, v_scales,
):  # fmt: skip
    """The vector-Jacobian product of `project_forward`: v_means [N,3], v_quats [N,4], v_scales [N,3] out.

    v_conics[..., 1] is the derivative by the one number that stands in both off-diagonal places.
    """
    while True:
        item = next_item(counter)
        if item >= items:
            break
        for i in range(item * CHUNK, min(N, (item + 1) * CHUNK), 8):
            last, X, Y, Z, s0, s1, s2, qw, qx, qy, qz, inv = _gaussians(means, quats, scales, i, N)
            r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(qw, qx, qy, qz)
            zero = splat(0.0)
            gX, gY, gZ = zero, zero, zero
            # m = the gradient by M = R diag(s)
            m00, m01, m02, m10, m11, m12, m20, m21, m22 = zero, zero, zero, zero, zero, zero, zero, zero, zero
            for c in range(C):
                out = c * N + i
                seen = gather(radii, 2 * out, 2, last) > 0.0
                w00, w01, w02, t0, w10, w11, w12, t1, w20, w21, w22, t2 = _view(viewmats, 16 * c)
                fx, cx, fy, cy = Ks[9 * c], Ks[9 * c + 2], Ks[9 * c + 4], Ks[9 * c + 5]
                x = _dot(w00, w01, w02, X, Y, Z) + t0
                y = _dot(w10, w11, w12, X, Y, Z) + t1
                # Culled ones are computed at z = 1 and thrown away: no infinities on the way.
                z = select(seen, _dot(w20, w21, w22, X, Y, Z) + t2, 1.0)
                inv_z, sx, sy = _clamped_slopes(x, y, z, fx, fy, cx, cy, width, height)
                j0, a0, a1, a2, p0, p1, p2 = _row(fx * inv_z, sx, w00, w01, w02, w20, w21, w22, s0, s1, s2,
                    r00, r01, r02, r10, r11, r12, r20, r21, r22)  # fmt: skip
                j1, b0, b1, b2, q0, q1, q2 = _row(fy * inv_z, sy, w10, w11, w12, w20, w21, w22, s0, s1, s2,
                    r00, r01, r02, r10, r11, r12, r20, r21, r22)  # fmt: skip

                # conic = cov^-1: v_cov = -conic v_conic conic
                A, B = gather(conics, 3 * out, 3, last), gather(conics, 3 * out + 1, 3, last)
                D = gather(conics, 3 * out + 2, 3, last)
                vA, vD = gather(v_conics, 3 * out, 3, last), gather(v_conics, 3 * out + 2, 3, last)
                vB = 0.5 * gather(v_conics, 3 * out + 1, 3, last)
                h00, h01, h10, h11 = vA * A + vB * B, vA * B + vB * D, vB * A + vD * B, vB * B + vD * D
                v_xx, v_xy, v_yy = -(A * h00 + B * h10), -2.0 * (A * h01 + B * h11), -(B * h01 + D * h11)
                if antialiased:
                    # compensation^2 = det(cov) / det(cov + eps2d I)
                    compensation = gather(compensations, out, 1, last)
                    half = gather(v_compensations, out, 1, last) * 0.5
                    half = select(compensation > 0.0, half / maximum(compensation, 1e-12), 0.0)
                    rest = 1.0 - compensation * compensation
                    tail = eps2d * (A * D - B * B)
                    v_xx = v_xx + half * (rest * A - tail)
                    v_xy = v_xy + 2.0 * half * rest * B
                    v_yy = v_yy + half * (rest * D - tail)

                # cov = V V^T, V = T M: gradients by V's rows, with diag(s) already folded in for T's
                f0, g0 = 2.0 * v_xx * p0 + v_xy * q0, 2.0 * v_yy * q0 + v_xy * p0
                f1, g1 = 2.0 * v_xx * p1 + v_xy * q1, 2.0 * v_yy * q1 + v_xy * p1
                f2, g2 = 2.0 * v_xx * p2 + v_xy * q2, 2.0 * v_yy * q2 + v_xy * p2
                f0, f1, f2 = select(seen, f0, 0.0), select(seen, f1, 0.0), select(seen, f2, 0.0)
                g0, g1, g2 = select(seen, g0, 0.0), select(seen, g1, 0.0), select(seen, g2, 0.0)
                m00, m01, m02 = m00 + a0 * f0 + b0 * g0, m01 + a0 * f1 + b0 * g1, m02 + a0 * f2 + b0 * g2
                m10, m11, m12 = m10 + a1 * f0 + b1 * g0, m11 + a1 * f1 + b1 * g1, m12 + a1 * f2 + b1 * g2
                m20, m21, m22 = m20 + a2 * f0 + b2 * g0, m21 + a2 * f1 + b2 * g1, m22 + a2 * f2 + b2 * g2
                f0, f1, f2 = f0 * s0, f1 * s1, f2 * s2
                g0, g1, g2 = g0 * s0, g1 * s1, g2 * s2
                # gradients by T's rows, then by J's entries: T0 = j0 (w0 - sx w2), J02 = -j0 sx
                vt0, vt1, vt2 = (
                    _dot(r00, r01, r02, f0, f1, f2),
                    _dot(r10, r11, r12, f0, f1, f2),
                    _dot(r20, r21, r22, f0, f1, f2),
                )
                vu0, vu1, vu2 = (
                    _dot(r00, r01, r02, g0, g1, g2),
                    _dot(r10, r11, r12, g0, g1, g2),
                    _dot(r20, r21, r22, g0, g1, g2),
                )
                v_j0, v_j02 = _dot(w00, w01, w02, vt0, vt1, vt2), _dot(w20, w21, w22, vt0, vt1, vt2)
                v_j1, v_j12 = _dot(w10, w11, w12, vu0, vu1, vu2), _dot(w20, w21, w22, vu0, vu1, vu2)

                v_u = select(seen, gather(v_means2d, 2 * out, 2, last), 0.0)
                v_w = select(seen, gather(v_means2d, 2 * out + 1, 2, last), 0.0)
                free_x = absolute(x * inv_z - sx) <= 0.0
                free_y = absolute(y * inv_z - sy) <= 0.0
                vx = j0 * (v_u - select(free_x, v_j02 * inv_z, 0.0))
                vy = j1 * (v_w - select(free_y, v_j12 * inv_z, 0.0))
                vz = select(seen, gather(v_depths, out, 1, last), 0.0)
                vz = vz - inv_z * j0 * (v_j0 + x * v_u - v_j02 * sx * select(free_x, 2.0, 1.0))
                vz = vz - inv_z * j1 * (v_j1 + y * v_w - v_j12 * sy * select(free_y, 2.0, 1.0))
                gX = gX + _dot(w00, w10, w20, vx, vy, vz)
                gY = gY + _dot(w01, w11, w21, vx, vy, vz)
                gZ = gZ + _dot(w02, w12, w22, vx, vy, vz)

            scatter(v_means, 3 * i, 3, last, gX)
            scatter(v_means, 3 * i + 1, 3, last, gY)
            scatter(v_means, 3 * i + 2, 3, last, gZ)
            scatter(v_scales, 3 * i, 3, last, _dot(m00, m10, m20, r00, r10, r20))
            scatter(v_scales, 3 * i + 1, 3, last, _dot(m01, m11, m21, r01, r11, r21))
            scatter(v_scales, 3 * i + 2, 3, last, _dot(m02, m12, m22, r02, r12, r22))
            m00, m01, m02 = m00 * s0, m01 * s1, m02 * s2
            m10, m11, m12 = m10 * s0, m11 * s1, m12 * s2
            m20, m21, m22 = m20 * s0, m21 * s1, m22 * s2
            vw = 2.0 * (qx * (m21 - m12) + qy * (m02 - m20) + qz * (m10 - m01))
            vx = 2.0 * (qy * (m10 + m01) + qz * (m20 + m02) + qw * (m21 - m12) - 2.0 * qx * (m11 + m22))
            vy = 2.0 * (qx * (m10 + m01) + qz * (m21 + m12) + qw * (m02 - m20) - 2.0 * qy * (m00 + m22))
            vz = 2.0 * (qx * (m20 + m02) + qy * (m21 + m12) + qw * (m10 - m01) - 2.0 * qz * (m00 + m11))
            # The quaternion was normalized: only the part at right angles to it counts.
            along = vw * qw + vx * qx + vy * qy + vz * qz
            scatter(v_quats, 4 * i, 4, last, inv * (vw - along * qw))
            scatter(v_quats, 4 * i + 1, 4, last, inv * (vx - along * qx))
            scatter(v_quats, 4 * i + 2, 4, last, inv * (vy - along * qy))
            scatter(v_quats, 4 * i + 3, 4, last, inv * (vz - along * qz))
