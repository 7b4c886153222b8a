"""PlayCanvas' compressed PLY, from an encoder written here splat by splat after the format's description."""

import math
import struct

import pytest
import torch

from rfgs.errors import UserError
from rfgs.export import read_ply
from rfgs.export.axes import WORLD_TO_Y_DOWN, rotate
from rfgs.splats import SH_C0, Splats, ball

BOUNDS = ["x", "y", "z", "scale_x", "scale_y", "scale_z", "r", "g", "b"]


def unorm(value: float, bits: int) -> int:
    return min(max(int(value * (2**bits - 1) + 0.5), 0), 2**bits - 1)


def encode(splats: Splats, colors_bounded: bool = True) -> bytes:
    """The file's bytes; the splats are in the file's own axes."""
    n = len(splats)
    scalars = torch.cat([splats.means, splats.log_scales, 0.5 + SH_C0 * splats.sh0[:, 0]], dim=1).tolist()
    if not colors_bounded:
        scalars = [row[:6] + [min(max(c, 0), 1) for c in row[6:]] for row in scalars]
    chunk_bytes, vertex_bytes, sh_bytes = b"", b"", b""
    for start in range(0, n, 256):
        rows = range(start, min(start + 256, n))
        low = [min(scalars[r][c] for r in rows) for c in range(9)]
        high = [max(scalars[r][c] for r in rows) for c in range(9)]
        bounds = [*low[:3], *high[:3], *low[3:6], *high[3:6]]
        if colors_bounded:
            bounds += [*low[6:], *high[6:]]
        else:
            low[6:], high[6:] = [0, 0, 0], [1, 1, 1]
        chunk_bytes += struct.pack(f"<{len(bounds)}f", *bounds)
        for r in rows:
            f = [(v - a) / (b - a) if b > a else 0 for v, a, b in zip(scalars[r], low, high, strict=True)]
            position = unorm(f[0], 11) << 21 | unorm(f[1], 10) << 11 | unorm(f[2], 11)
            scale = unorm(f[3], 11) << 21 | unorm(f[4], 10) << 11 | unorm(f[5], 11)
            alpha = 1 / (1 + math.exp(-splats.logit_opacities[r].item()))
            color = unorm(f[6], 8) << 24 | unorm(f[7], 8) << 16 | unorm(f[8], 8) << 8 | unorm(alpha, 8)
            q = torch.nn.functional.normalize(splats.quats[r], dim=0).tolist()
            largest = max(range(4), key=lambda i: abs(q[i]))
            sign = math.copysign(1, q[largest])
            rotation = largest
            for i in range(4):
                if i != largest:
                    rotation = rotation << 10 | unorm(sign * q[i] / math.sqrt(2) + 0.5, 10)
            vertex_bytes += struct.pack("<4I", position, rotation, scale, color)
            if splats.shN is not None:
                values = splats.shN[r].T.reshape(-1).tolist()
                sh_bytes += bytes(min(max(int((v / 8 + 0.5) * 256), 0), 255) for v in values)
    bounded = BOUNDS if colors_bounded else BOUNDS[:6]
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {-(-n // 256)}"]
    for group in (bounded[:3], bounded[3:6], bounded[6:]):
        lines += [f"property float {end}_{name}" for end in ("min", "max") for name in group]
    lines += [f"element vertex {n}"]
    lines += [f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")]
    if splats.shN is not None:
        lines += [f"element sh {n}", *(f"property uchar f_rest_{i}" for i in range(splats.shN[0].numel()))]
    return "\n".join([*lines, "end_header\n"]).encode() + chunk_bytes + vertex_bytes + sh_bytes


def random_splats(count: int, degree: int = 0) -> Splats:
    generator = torch.Generator().manual_seed(0)
    splats = ball(count, 1.0, generator=generator)
    splats.log_scales += torch.randn(count, 3, generator=generator)
    splats.logit_opacities = 2 * torch.randn(count, generator=generator)
    if degree:
        splats.shN = torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator).clamp(-3.9, 3.9)
    return splats


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_unpacks_to_within_a_quantization_step(tmp_path, degree):
    splats = random_splats(300, degree)  # two chunks, the second not full
    (tmp_path / "a.compressed.ply").write_bytes(encode(splats))
    read = rotate(read_ply(tmp_path / "a.compressed.ply"), WORLD_TO_Y_DOWN)  # back into the file's axes
    assert len(read) == 300 and read.sh_degree == degree
    spans = {"means": 2.0 / 1023, "log_scales": (splats.log_scales.max() - splats.log_scales.min()) / 1023}
    for name, step in spans.items():
        assert (getattr(read, name) - getattr(splats, name)).abs().max() <= 0.51 * step + 1e-6
    assert (read.opacities - splats.opacities).abs().max() <= 1 / 255
    assert (read.colors - splats.colors).abs().max() <= 0.51 / 255
    expected = torch.nn.functional.normalize(splats.quats, dim=-1)
    angles = 2 * torch.arccos((read.quats * expected).sum(dim=-1).abs().clamp(max=1)).rad2deg()
    assert angles.max() < 0.35
    if degree:
        # Half of a byte's step before the axes are turned; the turn mixes the coefficients of one degree.
        assert (read.shN - splats.shN).abs().max() <= 0.5 * 8 / 256 * math.sqrt(7)


def test_every_largest_component(tmp_path):
    quats = torch.tensor(
        [[0.9, 0.1, -0.3, 0.2], [0.1, -0.9, 0.2, 0.3], [0.3, 0.2, 0.9, -0.1], [-0.2, 0.1, 0.3, 0.9]]
    )
    splats = random_splats(4)
    splats.quats = torch.nn.functional.normalize(quats, dim=-1)
    (tmp_path / "a.ply").write_bytes(encode(splats))
    read = rotate(read_ply(tmp_path / "a.ply"), WORLD_TO_Y_DOWN)
    torch.testing.assert_close(
        (read.quats * splats.quats).sum(dim=-1).abs(), torch.ones(4), atol=1e-5, rtol=0
    )


def test_constant_chunk_and_extreme_opacities(tmp_path):
    splats = random_splats(2)
    splats.means[:] = torch.tensor([1.0, 2.0, 3.0])
    splats.logit_opacities = torch.tensor([40.0, -40.0])
    (tmp_path / "a.ply").write_bytes(encode(splats))
    read = read_ply(tmp_path / "a.ply")
    torch.testing.assert_close(rotate(read, WORLD_TO_Y_DOWN).means, splats.means)
    assert torch.isfinite(read.logit_opacities).all()
    assert read.opacities[0] > 0.99 and read.opacities[1] < 0.01


def test_early_files_without_color_bounds(tmp_path):
    splats = random_splats(50)
    (tmp_path / "a.ply").write_bytes(encode(splats, colors_bounded=False))
    assert (read_ply(tmp_path / "a.ply").colors - splats.colors.clamp(max=1)).abs().max() <= 0.51 / 255


def test_damaged(tmp_path):
    content = encode(random_splats(300))
    (tmp_path / "short.ply").write_bytes(content[:-1])
    with pytest.raises(UserError, match="short.ply is damaged"):
        read_ply(tmp_path / "short.ply")
    (tmp_path / "chunks.ply").write_bytes(
        content.replace(b"chunk 2", b"chunk 1").replace(content[-16 * 300 - 72 : -16 * 300], b"")
    )
    with pytest.raises(UserError, match="chunks.ply is damaged"):
        read_ply(tmp_path / "chunks.ply")
    (tmp_path / "name.ply").write_bytes(content.replace(b"min_scale_x", b"min_scale_q"))
    with pytest.raises(UserError, match="name.ply is damaged"):
        read_ply(tmp_path / "name.ply")
