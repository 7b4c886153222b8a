"""`render`: splats and cameras to frames, with either rasterizer; and gsplat's densification on our info."""

import ast
import inspect
import textwrap

import gsplat
import pytest
import torch

from rfgs.errors import UserError
from rfgs.render import on_gsplat, render
from rfgs.render.cameras import orbit
from rfgs.render.cpu import rasterization
from rfgs.splats import Splats, ball
from tests.render import gsplat_reference as reference

REAL = gsplat.rasterization


@pytest.fixture
def splats():
    g = torch.Generator().manual_seed(0)
    splats = ball(300, 0.8, generator=g, opacity=0.5)
    splats.shN = torch.randn(300, 3, 3, generator=g) * 0.2
    return splats.requires_grad_()


@pytest.fixture
def cameras():
    return orbit(torch.tensor([0.0, 120.0, 240.0]), 20.0, 3.2, 40.0, 40, 32)


def test_frames(splats, cameras):
    frames = render(splats, cameras, torch.tensor([0.1, 0.2, 0.3]), depth=True)
    assert frames.rgb.shape == (3, 3, 32, 40) and frames.alpha.shape == frames.depth.shape == (3, 1, 32, 40)
    corner = frames.alpha[:, 0, 0, 0] == 0
    assert corner.all() and torch.allclose(frames.rgb[:, :, 0, 0], torch.tensor([0.1, 0.2, 0.3]).expand(3, 3))
    middle = frames.depth[:, 0, 16, 20]
    assert ((middle > 3.2 - 0.9) & (middle < 3.2 + 0.9)).all()
    frames.rgb.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in splats.parameters().values())
    assert render(splats, cameras).depth is None


def test_one_background_or_one_per_camera(splats, cameras):
    colors = torch.rand(3, 3)
    frames = render(splats, cameras, colors)
    for k in range(3):
        assert torch.equal(frames.rgb[k], render(splats, cameras[k : k + 1], colors[k]).rgb[0])
    with pytest.raises(UserError, match=r"background has the shape \[2, 3\], expected \[3\] or \[3, 3\]"):
        render(splats, cameras, torch.zeros(2, 3))


def test_unknown_rasterizer(splats, cameras):
    with pytest.raises(UserError, match="'opengl': has to be 'auto', 'cpu' or 'gsplat'"):
        render(splats, cameras, rasterizer="opengl")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gsplat_without_a_gpu_is_told_before_any_work(splats, cameras):
    with pytest.raises(UserError, match="rasterizer 'gsplat': .*rasterizer='cpu'"):
        render(splats, cameras, rasterizer="gsplat")


@pytest.fixture
def gsplat_on_cpu(monkeypatch):
    """gsplat.rasterization replaced by its mathematics in torch; its arguments are bound to the real signature."""

    def rasterization_(**arguments):
        bound = inspect.signature(REAL).bind(**arguments)
        bound.apply_defaults()
        assert bound.arguments["packed"] is False
        image, alphas, info = reference.rasterization(
            **{k: v for k, v in bound.arguments.items() if k != "covars"}
        )
        names = {
            "width": arguments["width"],
            "height": arguments["height"],
            "n_cameras": len(arguments["viewmats"]),
        }
        return image, alphas, info | names

    monkeypatch.setattr(gsplat, "rasterization", rasterization_)
    monkeypatch.setattr(on_gsplat, "check_available", lambda device: None)


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("antialiased", [False, True])
def test_both_rasterizers_draw_the_same(gsplat_on_cpu, splats, cameras, depth, antialiased):
    options = {"background": torch.tensor([0.9, 0.2, 0.3]), "depth": depth, "antialiased": antialiased}
    ours, theirs = render(splats, cameras, **options), render(splats, cameras, rasterizer="gsplat", **options)
    assert (ours.rgb - theirs.rgb).abs().max() < 1e-4 and (ours.alpha - theirs.alpha).abs().max() < 1e-4
    if depth:
        assert (ours.depth - theirs.depth).abs().max() < 1e-3
    for frames in (ours, theirs):
        frames.info["means2d"].retain_grad()
        frames.rgb.square().sum().backward()
    gradients = ours.info["means2d"].grad, theirs.info["means2d"].grad
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[1].norm()


def test_info_has_gsplats_keys(splats, cameras):
    """The keys that gsplat's source puts into its meta, less the sorting keys that we do not make."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(REAL)))
    updates = [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "meta.update"
    ]
    theirs = {key.value for update in updates for key in update.keys}
    assert set(render(splats, cameras).info) == theirs - {"isect_ids"}


def test_default_strategy_runs_on_our_info(cameras):
    g = torch.Generator().manual_seed(1)
    start = ball(200, 0.8, generator=g, opacity=0.5)
    params = {
        "means": start.means, "scales": start.log_scales, "quats": start.quats, "opacities": start.logit_opacities,
        "sh0": start.sh0,
    }  # fmt: skip
    params = {name: torch.nn.Parameter(value.clone()) for name, value in params.items()}
    optimizers = {name: torch.optim.Adam([p], 0.01) for name, p in params.items()}
    for absgrad in (False, True):
        strategy = gsplat.DefaultStrategy(
            absgrad=absgrad, refine_start_iter=1, refine_every=3, reset_every=6, grow_grad2d=1e-5, prune_opa=0.01,
            pause_refine_after_reset=0,
        )  # fmt: skip
        strategy.check_sanity(params, optimizers)
        state = strategy.initialize_state(scene_scale=1.0)
        counts = []
        for step in range(14):
            colors, alphas, info = rasterization(
                params["means"], params["quats"], params["scales"].exp(), params["opacities"].sigmoid(), params["sh0"],
                cameras.viewmats, cameras.Ks, 40, 32, sh_degree=0, absgrad=absgrad,
            )  # fmt: skip
            strategy.step_pre_backward(params, optimizers, state, step, info)
            (colors - 0.7).square().mean().backward()
            strategy.step_post_backward(params, optimizers, state, step, info, packed=False)
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
            counts.append(len(params["means"]))
        assert counts[-1] > counts[0]


def test_splats_are_not_changed(splats, cameras):
    before = Splats.from_parameters({k: v.detach().clone() for k, v in splats.parameters().items()})
    render(splats, cameras).rgb.sum().backward()
    assert all(torch.equal(v, before.parameters()[k]) for k, v in splats.parameters().items())
