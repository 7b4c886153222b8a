import struct

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from rfgs.export import write_splat
from rfgs.splats import SH_C0, Splats, ball


def test_values_of_one_splat(tmp_path):
    splats = Splats(
        means=torch.tensor([[1.0, 2.0, 3.0]]),
        quats=torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
        log_scales=torch.tensor([[0.1, 0.2, 0.4]]).log(),
        logit_opacities=torch.tensor([0.8]).logit(),
        sh0=(torch.tensor([[[0.2, 1.7, -0.3]]]) - 0.5) / SH_C0,
        shN=torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0)),
    )
    write_splat(splats, tmp_path / "a.splat")
    content = (tmp_path / "a.splat").read_bytes()
    x, y, z, *scales, r, g, b, a = struct.unpack("<6f4B4x", content)
    assert (x, y, z) == (2, -3, -1)  # a PLY's axes
    assert scales == pytest.approx([0.1, 0.2, 0.4])
    assert (r, g, b, a) == (51, 255, 0, 204)


def read(content: bytes) -> dict[str, np.ndarray]:
    """Columns of a .splat file, taken from its bytes one splat at a time."""
    rows = [struct.unpack_from("<6f8B", content, offset) for offset in range(0, len(content), 32)]
    values = np.array(rows)
    return {
        "means": values[:, :3],
        "scales": values[:, 3:6],
        "alpha": values[:, 9] / 255,
        "quats": (values[:, 10:] - 128) / 128,
    }


def test_order_and_covariances(tmp_path):
    generator = torch.Generator().manual_seed(0)
    splats = ball(50, 1.0, generator=generator)
    splats.log_scales += torch.randn(50, 3, generator=generator)
    splats.logit_opacities = torch.randn(50, generator=generator)
    write_splat(splats, tmp_path / "a.splat")
    rows = read((tmp_path / "a.splat").read_bytes())
    assert len(rows["means"]) == 50
    # Volume times opacity falls, up to the rounding of opacities to bytes.
    importance = rows["scales"].prod(axis=1) * rows["alpha"]
    assert np.all(importance[1:] <= importance[:-1] * 1.05)

    turn = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]])
    source = {tuple(np.round(turn @ mean, 4)): i for i, mean in enumerate(splats.means.numpy())}
    for mean, scale, quat in zip(rows["means"], rows["scales"], rows["quats"], strict=True):
        index = source[tuple(np.round(mean, 4))]
        expected = Rotation.from_quat(splats.quats[index].numpy(), scalar_first=True).as_matrix()
        expected = turn @ expected @ np.diag(splats.scales[index].numpy())
        actual = Rotation.from_quat(quat, scalar_first=True).as_matrix() @ np.diag(scale)
        difference = actual @ actual.T - expected @ expected.T
        assert np.abs(difference).max() <= 0.03 * np.abs(expected @ expected.T).max()
