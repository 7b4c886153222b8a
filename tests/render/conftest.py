"""Random scenes for the rasterizer tests."""

import math

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """torch's threads wait for each other by spinning: on a busy machine the dense reference takes ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def scene():
    """A function that makes gsplat's arguments for `count` Gaussians in a unit ball seen by `views` cameras around it."""

    def make(
        count=120,
        views=2,
        width=37,
        height=42,
        seed=0,
        channels=3,
        scale=0.15,
        fov=45.0,
        distance=3.0,
        opacity=None,
    ):
        g = torch.Generator().manual_seed(seed)
        means = torch.randn(count, 3, generator=g)
        means = means / means.norm(dim=-1, keepdim=True) * torch.rand(count, 1, generator=g) ** (1 / 3)
        viewmats = torch.eye(4).repeat(views, 1, 1)
        for view in range(views):
            rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=g))
            viewmats[view, :3, :3] = rotation * torch.linalg.det(rotation)
            viewmats[view, :3, 3] = torch.tensor([0.05, -0.1, distance])
        focal = 0.5 * height / math.tan(math.radians(fov) / 2)
        Ks = torch.tensor(
            [[focal, 0, width / 2 + 0.7], [0, 1.1 * focal, height / 2 - 1.3], [0, 0, 1]]
        ).repeat(views, 1, 1)
        opacities = torch.rand(count, generator=g)
        return {
            "means": means,
            "quats": torch.randn(count, 4, generator=g) * 2,
            "scales": scale * torch.exp(0.7 * torch.randn(count, 3, generator=g)),
            "opacities": opacities if opacity is None else torch.full((count,), opacity),
            "colors": torch.rand(count, channels, generator=g),
            "viewmats": viewmats,
            "Ks": Ks,
            "width": width,
            "height": height,
        }

    return make
