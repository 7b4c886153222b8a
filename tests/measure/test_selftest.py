"""`rfgs doctor --test` on a CPU: all works, and what is broken is told."""

from __future__ import annotations

import pytest
import torch

from rfgs.cli.doctor import Doctor
from rfgs.errors import UserError
from rfgs.measure import selftest
from rfgs.models import machine
from rfgs.render.cameras import orbit
from rfgs.render.plain import plain
from rfgs.splats import ball


def test_all_works_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [])
    real = selftest.checks
    monkeypatch.setattr(selftest, "checks", lambda device, say: real(device, say, steps=2))
    Doctor(test=True).run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("is tested on the CPU") and lines[-1] == "works, on the cpu"
    assert [line.partition(":")[0] for line in lines[1:-1]] == [
        "kernels",
        "rasterizer",
        "2 steps of tiny-sd3",
        "memory",
    ]


def test_a_rasterizer_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert selftest._rasterizer("cpu")[0]
    monkeypatch.setattr(
        selftest, "plain", lambda splats, cameras, background: 1.01 * plain(splats, cameras, background)
    )
    works, detail = selftest._rasterizer("cpu")
    assert not works and "differs from plain torch by" in detail


def test_what_breaks_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: no kernel image\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(machine, "gpus", lambda: [])
    monkeypatch.setattr(selftest, "prepare", broken)
    with pytest.raises(
        UserError, match="does not work on the cpu: kernels: RuntimeError: CUDA error: no kernel image$"
    ):
        Doctor(test=True).run()
    assert "(does not work)" in capsys.readouterr().out


def test_the_plain_rasterization_is_differentiable_everywhere() -> None:
    splats = ball(20, 0.5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    picture = plain(splats, orbit(0.0, 0.0, 3.0, 40.0, 8, 12), torch.ones(3))
    assert picture.shape == (1, 3, 12, 8)
    picture.square().sum().backward()
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in splats.parameters().values()
    )
