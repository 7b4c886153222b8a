"""The CPU rasterizer against gsplat's mathematics in float64."""

import pytest
import gsplat_reference as reference
import torch

from rfgs.errors import UserError
from rfgs.render import cpu

LEAVES = ("means", "quats", "scales", "opacities", "colors")


def run(rasterization, arguments, dtype, **options):
    """Image, alphas, gradients by leaves and means2d, info; the cotangents are the same numbers for every rasterizer."""
    arguments = {k: v.to(dtype, copy=True) if torch.is_tensor(v) else v for k, v in (arguments | options).items()}
    for name in LEAVES:
        arguments[name].requires_grad_()
    colors, alphas, info = rasterization(**arguments)
    info["means2d"].retain_grad()
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(x.shape, generator=g).to(dtype) for x in (colors, alphas)]
    ((colors * weights[0]).sum() + (alphas * weights[1]).sum()).backward()
    gradients = {name: arguments[name].grad for name in LEAVES} | {"means2d": info["means2d"].grad}
    return colors.detach(), alphas.detach(), gradients, info


def relative(a, b):
    return ((a.double() - b).norm() / b.norm().clamp(min=1e-12)).item()


def compare(arguments, gradient=3e-5, image=1e-5, leaves=(*LEAVES, "means2d"), **options):
    ours, our_alphas, our_gradients, info = run(cpu.rasterization, arguments, torch.float32, **options)
    theirs, their_alphas, their_gradients, _ = run(reference.rasterization, arguments, torch.float64, **options)
    # A depth image is in world units, not in [0, 1].
    assert (ours - theirs).abs().max() < image * max(1.0, theirs.abs().max().item())
    assert (our_alphas - their_alphas).abs().max() < image
    for name in leaves:
        if their_gradients[name] is None:
            assert our_gradients[name] is None or not our_gradients[name].any()
        else:
            assert relative(our_gradients[name], their_gradients[name]) < gradient, name
    return info


def test_rgb(scene):
    info = compare(scene())
    assert info["radii"].shape == (2, 120, 2) and info["means2d"].shape == (2, 120, 2)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 15), (64, 33)])
def test_sizes(scene, size):
    compare(scene(width=size[0], height=size[1], views=1))


@pytest.mark.parametrize("mode", ["D", "ED", "RGB+D", "RGB+ED"])
def test_depth_modes(scene, mode):
    compare(scene(), render_mode=mode, backgrounds=torch.tensor([[0.2, 0.5, 0.9], [1.0, 0.0, 0.3]]))


@pytest.mark.parametrize("channels", [1, 2, 4, 9])
def test_any_number_of_channels(scene, channels):
    compare(scene(channels=channels))


def test_antialiased(scene):
    compare(scene(scale=0.01), rasterize_mode="antialiased")


def test_background(scene):
    compare(scene(), backgrounds=torch.tensor([[0.2, 0.5, 0.9], [1.0, 0.0, 0.3]]))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics(scene, degree):
    arguments = scene()
    g = torch.Generator().manual_seed(5)
    compare(arguments | {"colors": torch.randn(120, 16, 3, generator=g) * 0.4}, sh_degree=degree)


def test_colors_per_camera(scene):
    arguments = scene()
    compare(arguments | {"colors": torch.rand(2, 120, 3, generator=torch.Generator().manual_seed(1))})


def test_saturated_alpha(scene):
    compare(scene(opacity=1.0, scale=0.4), gradient=1e-4)


def test_wide_field_of_view_clips_the_jacobian(scene):
    compare(scene(fov=25.0, distance=1.6, scale=0.1))


def test_behind_and_off_screen(scene):
    arguments = scene(count=200)
    arguments["means"][:60] *= 20.0
    info = compare(arguments)
    assert ((info["radii"] > 0).all(-1).sum(-1) < 190).all()
