"""Operations on splats and moments against gsplat's own on the same tensors, and against what relocation promises."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rfgs.distill import densify_ops
from rfgs.distill.densify_ops import relocation
from rfgs.splats import Splats
from tests.distill.some_splats import N, learned, some_splats, two_steps

GSPLAT_NAMES = {
    "means": "means",
    "quats": "quats",
    "log_scales": "scales",
    "logit_opacities": "opacities",
    "sh0": "sh0",
}
MASK = torch.tensor([True, False, False, True, True, False, False, False, True, False, False, False])


def both(
    ours: Callable[[Splats, torch.optim.Optimizer], Splats], theirs: Callable[[dict, dict], Any]
) -> None:
    """Checks that an operation of ours and one of gsplat's leave the same parameters and the same moments."""
    splats = some_splats().requires_grad_()
    optimizer = learned(splats)
    params = {
        GSPLAT_NAMES[name]: torch.nn.Parameter(value.clone())
        for name, value in some_splats().parameters().items()
    }
    optimizers = {name: torch.optim.Adam([value], lr=1e-3) for name, value in params.items()}
    two_steps(list(params.values()), list(optimizers.values()))

    after = ours(splats, optimizer)
    theirs(params, optimizers)
    for (name, value), group in zip(after.parameters().items(), optimizer.param_groups, strict=True):
        other = params[GSPLAT_NAMES[name]]
        torch.testing.assert_close(value, other.data, rtol=1e-5, atol=1e-6)
        assert group["params"][0] is value and value.requires_grad and value.is_leaf
        mine, gsplats = optimizer.state[value], optimizers[GSPLAT_NAMES[name]].state[other]
        assert set(mine) == {"step", "exp_avg", "exp_avg_sq"} and mine["step"] == gsplats["step"] == 2
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(mine[key], gsplats[key])
    assert len(optimizer.state) == 5  # What is gone is forgotten.


@pytest.fixture
def ops(monkeypatch: pytest.MonkeyPatch) -> Any:
    """gsplat's operations, with our formula in the place of its CUDA kernel."""
    module = importlib.import_module("gsplat.strategy.ops")

    def formula(opacities: Tensor, scales: Tensor, ratios: Tensor, binoms: Tensor) -> tuple[Tensor, Tensor]:
        return relocation(opacities, scales, ratios)

    monkeypatch.setattr(module, "compute_relocation", formula)
    return module


def test_duplicate_is_gsplats(ops: Any) -> None:
    both(
        lambda splats, optimizer: densify_ops.duplicate(splats, optimizer, MASK),
        lambda params, optimizers: ops.duplicate(params, optimizers, {}, MASK),
    )


def test_split_is_gsplats(ops: Any) -> None:
    def theirs(params: dict, optimizers: dict) -> None:
        torch.manual_seed(5)
        ops.split(params, optimizers, {}, MASK)

    both(
        lambda splats, optimizer: densify_ops.split(
            splats, optimizer, MASK, torch.Generator().manual_seed(5)
        ),
        theirs,
    )


def test_remove_is_gsplats(ops: Any) -> None:
    both(
        lambda splats, optimizer: densify_ops.remove(splats, optimizer, MASK),
        lambda params, optimizers: ops.remove(params, optimizers, {}, MASK),
    )


def test_relocate_is_gsplats(ops: Any) -> None:
    def theirs(params: dict, optimizers: dict) -> None:
        torch.manual_seed(5)
        ops.relocate(params, optimizers, {}, MASK, torch.zeros(51, 51), 0.005)

    both(
        lambda splats, optimizer: densify_ops.relocate(
            splats, optimizer, MASK, 0.005, torch.Generator().manual_seed(5)
        ),
        theirs,
    )


def test_sample_add_is_gsplats(ops: Any) -> None:
    def theirs(params: dict, optimizers: dict) -> None:
        torch.manual_seed(5)
        ops.sample_add(params, optimizers, {}, 7, torch.zeros(51, 51), 0.005)

    both(
        lambda splats, optimizer: densify_ops.sample_add(
            splats, optimizer, 7, 0.005, torch.Generator().manual_seed(5)
        ),
        theirs,
    )


@pytest.mark.parametrize("copies", [1, 2, 5, 20])
def test_relocated_splats_look_like_the_one_before(copies: int) -> None:
    """Integrals along a line through the center, by quadrature, of one splat and of `copies` composited in its place."""
    opacity, scale = torch.tensor([0.7]), torch.tensor([[0.2, 0.3, 0.4]])
    new_opacity, new_scale = relocation(opacity, scale, torch.tensor([copies]))
    assert 1 - (1 - new_opacity.item()) ** copies == pytest.approx(0.7, rel=1e-5)
    x = torch.linspace(-8, 8, 20001, dtype=torch.float64)

    def seen(opacity: float, scale: float, count: int) -> float:
        return (1 - (1 - opacity * (-0.5 * (x / scale) ** 2).exp()) ** count).mean().item()

    for axis in range(3):
        after = seen(new_opacity.item(), new_scale[0, axis].item(), copies)
        assert after == pytest.approx(seen(0.7, scale[0, axis].item(), 1), rel=1e-4)


def test_jitter_moves_faint_splats_alone_and_along_their_axes() -> None:
    splats = some_splats()
    splats.logit_opacities = torch.full((N,), 0.0005).logit()
    splats.logit_opacities[MASK] = 2.0
    splats.quats = torch.tensor([1.0, 0, 0, 0]).repeat(N, 1)
    splats.log_scales = torch.tensor([1.0, 1e-3, 1e-3]).log().repeat(N, 1)
    before = splats.means.clone()
    densify_ops.jitter(splats, 1.0, torch.Generator().manual_seed(1))
    moved = (splats.means - before).abs()
    assert moved[MASK].max() < 1e-6
    assert moved[~MASK, 0].min() > 1e-3 and moved[:, 1:].max() < 1e-4
