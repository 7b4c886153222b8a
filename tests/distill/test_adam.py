"""Adam: torch's, bit by bit, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy

import torch

from rfgs.distill.adam import Adam
from tests.distill.some_splats import some_splats, two_steps

OPTIONS = {"betas": (0.9, 0.99), "eps": 1e-15}


def groups(seed: int = 3) -> list[dict]:
    values = some_splats(seed).requires_grad_().parameters()
    return [
        {"params": [value], "lr": 0.01 * (1 + number), "rate": name}
        for number, (name, value) in enumerate(values.items())
    ]


def test_it_moves_parameters_as_torch_does() -> None:
    ours, theirs = Adam(groups(), **OPTIONS), torch.optim.Adam(groups(), **OPTIONS, fused=True)
    for _ in range(3):
        for optimizer in (ours, theirs):
            two_steps([group["params"][0] for group in optimizer.param_groups], [optimizer])
    for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert torch.equal(mine["params"][0], other["params"][0])
    for mine, other in zip(ours.state.values(), theirs.state.values(), strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in other)


def test_what_has_no_gradient_stays_and_has_no_state() -> None:
    optimizer = Adam(groups(), **OPTIONS)
    first, *others = [group["params"][0] for group in optimizer.param_groups]
    before = [value.detach().clone() for value in others]
    first.grad = torch.ones_like(first)
    optimizer.step()
    assert list(optimizer.state) == [first]
    assert all(torch.equal(value, old) for value, old in zip(others, before, strict=True))
    optimizer.zero_grad()
    assert first.grad is None


def test_it_goes_on_from_its_own_state_and_from_torchs() -> None:
    ours, theirs = Adam(groups(), **OPTIONS), torch.optim.Adam(groups(), **OPTIONS, fused=True)
    ends = []
    for before in (ours, theirs):
        before.param_groups[0]["lr"] = 0.5
        two_steps([group["params"][0] for group in before.param_groups], [before])
        values = [group["params"][0].detach().clone().requires_grad_() for group in before.param_groups]
        after = Adam([{**group, "params": [value], "lr": 9.0} for group, value in zip(groups(), values, strict=True)],
                     **OPTIONS)  # fmt: skip
        noted = deepcopy(before.state_dict())
        after.load_state_dict(noted)
        two_steps(values, [after])
        two_steps([group["params"][0] for group in before.param_groups], [before])
        # What was loaded is a copy.
        assert all(state["step"] == 2 for state in noted["state"].values())
        for group, value in zip(before.param_groups, values, strict=True):
            assert torch.equal(group["params"][0], value)
        ends.append(values)
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_torchs_compiler_stays_out() -> None:
    """Its import takes as long as torch's own; a run needs neither it nor what it brings."""
    program = (
        "import sys, torch\n"
        "from rfgs.distill.loop import make_optimizer\n"
        "from rfgs.distill.settings import DistillConfig\n"
        "from rfgs.splats import ball\n"
        "splats = ball(3, 0.5, generator=torch.Generator()).requires_grad_()\n"
        "optimizer = make_optimizer(splats, DistillConfig())\n"
        "splats.means.sum().backward()\n"
        "optimizer.step(); optimizer.zero_grad()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
