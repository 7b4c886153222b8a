"""The CPU rasterizer against gsplat's mathematics in float64."""

import inspect

import pytest
import torch

from rfgs.errors import UserError
from rfgs.render import cpu, jit
from tests.render import gsplat_reference as reference

LEAVES = ("means", "quats", "scales", "opacities", "colors")


def run(rasterization, arguments, dtype, **options):
    """Image, alphas, gradients by leaves and means2d, info; the cotangents are the same numbers for every rasterizer."""
    arguments = {
        k: v.to(dtype, copy=True) if torch.is_tensor(v) else v for k, v in (arguments | options).items()
    }
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
    theirs, their_alphas, their_gradients, _ = run(
        reference.rasterization, arguments, torch.float64, **options
    )
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


def test_absgrad(scene):
    arguments = scene(count=60, width=24, height=20)
    g = torch.Generator().manual_seed(2)
    weights = torch.randn(2, 20, 24, 3, generator=g)
    leaf = arguments["means"].clone().requires_grad_()
    colors, _, info = cpu.rasterization(**arguments | {"means": leaf}, absgrad=True)
    (colors * weights).sum().backward()

    doubles = {k: v.double() if torch.is_tensor(v) else v for k, v in arguments.items()}
    channels = doubles.pop("colors").expand(2, -1, -1)
    means2d, conics, depths, opacities, kept = reference.project(**doubles)
    shift = torch.zeros(2, 60, 24 * 20, 2, dtype=torch.float64, requires_grad=True)
    image, _ = reference.composite(means2d, conics, channels, opacities, depths, kept, 24, 20, shift=shift)
    (image * weights).sum().backward()
    assert relative(info["means2d"].absgrad, shift.grad.abs().sum(2)) < 1e-5


def test_maximum_alpha_is_the_installed_gsplats():
    from gsplat.cuda import _torch_impl

    assert f"{cpu.gsplat_max_alpha()}" in inspect.getsource(_torch_impl.accumulate)


@pytest.mark.parametrize("views", [1, 3])
def test_same_bits_with_any_number_of_threads(scene, views, monkeypatch):
    arguments = scene(count=6000, width=200, height=150, views=views, scale=0.05)
    results = []
    for threads in (1, 2, 5, 2):
        for module in (cpu, jit):  # more than the machine may have, and for less work than is worth it
            monkeypatch.setattr(module, "threads_for", lambda cost, threads=threads: threads)
        results.append(run(cpu.rasterization, arguments, torch.float32, absgrad=True))
    for colors, alphas, gradients, info in results[1:]:
        assert torch.equal(colors, results[0][0]) and torch.equal(alphas, results[0][1])
        assert torch.equal(info["means2d"].absgrad, results[0][3]["means2d"].absgrad)
        for name, gradient in gradients.items():
            assert torch.equal(gradient, results[0][2][name]), name


def test_a_thread_is_woken_for_work_that_is_worth_it(monkeypatch):
    monkeypatch.setattr(jit, "usable", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert [jit.threads_for(cost) for cost in (10.0, 200.0, 1e6)] == [1, 2, 4]


def test_an_image_without_alpha_or_colors_in_the_loss(scene):
    """Each output alone gets its gradient, as when the other's is zeros."""
    arguments = scene(count=300, width=40, height=30)
    means = arguments["means"].requires_grad_()
    for used in (0, 1):
        gradients = []
        for add_zeros in (False, True):
            outputs = cpu.rasterization(**arguments)
            loss = outputs[used].square().sum() + (0.0 * outputs[1 - used].sum() if add_zeros else 0.0)
            gradients += torch.autograd.grad(loss, means)
        assert gradients[0].any() and torch.equal(*gradients)


def test_renders_from_several_python_threads(scene):
    """A viewer renders while a run trains."""
    from concurrent.futures import ThreadPoolExecutor

    arguments = scene(count=3000, width=128, height=128, scale=0.05)
    expected = cpu.rasterization(**arguments)[0]
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: cpu.rasterization(**arguments)[0], range(16)))
    assert all(torch.equal(image, expected) for image in images)


def test_no_splats(scene):
    arguments = scene(count=0)
    background = torch.tensor([[0.2, 0.5, 0.9], [1.0, 0.0, 0.3]])
    colors, alphas, gradients, info = run(cpu.rasterization, arguments, torch.float32, backgrounds=background)
    assert torch.equal(colors, background[:, None, None].expand(2, 42, 37, 3)) and not alphas.any()
    assert gradients["means"].shape == (0, 3) and info["radii"].shape == (2, 0, 2)


def test_nothing_visible(scene):
    arguments = scene()
    arguments["means"] += 1000.0
    colors, alphas, gradients, info = run(cpu.rasterization, arguments, torch.float32)
    assert not colors.any() and not alphas.any() and not info["radii"].any()
    assert not any(gradient.any() for gradient in gradients.values())


def test_not_a_number_is_not_drawn(scene):
    arguments = scene(count=50)
    expected = cpu.rasterization(**{k: v[1:] if k in LEAVES else v for k, v in arguments.items()})[0]
    arguments["means"][0, 1] = float("nan")
    assert torch.equal(cpu.rasterization(**arguments)[0], expected)


def test_equal_depths_are_drawn_in_order_of_index(scene):
    """A stack of copies: the first in the list is in front, as a stable sort has it."""
    arguments = scene(count=40, views=1)
    for name in ("means", "quats", "scales"):
        arguments[name][:] = arguments[name][:1] * (name != "means")
    compare(arguments)


def test_near_and_far_planes_and_radius_clip(scene):
    arguments = scene(count=300)
    compare(arguments, near_plane=2.7, far_plane=3.4)
    _, _, info = cpu.rasterization(**arguments)
    _, _, clipped = cpu.rasterization(**arguments, radius_clip=6.0)
    assert torch.equal(
        (clipped["radii"] > 0).all(-1), (info["radii"] > 0).all(-1) & (info["radii"].amax(-1) > 6)
    )


def test_background_gradient(scene):
    background = torch.rand(2, 3, requires_grad=True)
    colors, alphas, _ = cpu.rasterization(**scene(), backgrounds=background)
    (colors * 2.0).sum().backward()
    assert torch.allclose(background.grad, (2.0 * (1 - alphas)).sum((1, 2)).expand(2, 3), rtol=1e-5)


def test_tile_lists_hold_every_visible_pair_once(scene):
    arguments = scene(count=400, width=70, height=50)
    _, _, info = cpu.rasterization(**arguments)
    offsets, ids = info["isect_offsets"].flatten().tolist(), info["flatten_ids"].tolist()
    assert (info["tile_width"], info["tile_height"]) == (5, 4) and info["isect_offsets"].shape == (2, 4, 5)
    assert len(ids) == info["tiles_per_gauss"].sum()
    depths = info["depths"].flatten()
    for tile, (start, stop) in enumerate(zip(offsets, offsets[1:] + [len(ids)], strict=True)):
        own = ids[start:stop]
        assert len(set(own)) == len(own) and all(i // 400 == tile // 20 for i in own)
        assert torch.equal(depths[own], depths[own].sort().values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quats": torch.zeros(3, 4)}, r"quats has the shape \(3, 4\), expected \(120, 4\)"),
        ({"means": torch.zeros(120, 3, dtype=torch.float64)}, "means is torch.float64 on cpu"),
        ({"render_mode": "XYZ"}, "render_mode 'XYZ' must be one of RGB, D, ED"),
        ({"rasterize_mode": "smooth"}, "'smooth' must be"),
        ({"sh_degree": 2}, "colors has the shape"),
        ({"width": 0}, "0 x 42 pixels"),
        ({"backgrounds": torch.zeros(3)}, "backgrounds has the shape"),
    ],
)
def test_mistakes_are_named(scene, change, message):
    with pytest.raises(UserError, match=message):
        cpu.rasterization(**scene() | change)
