"""`rfgs warmup` compiles gsplat's kernels where there is a GPU to run them on, and says why where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rfgs.cli import warmup
from rfgs.models import machine
from rfgs.render import gsplat_build

GPU = [machine.Gpu("H100", 80 << 30, (9, 0))]
NEEDED = {
    "gpus": lambda: GPU,
    "torch_cuda": lambda: "12.8",
    "driver_cuda": lambda: "12.9",
    "gsplat_state": lambda: "x",
}
CASES: dict[str, tuple[dict[str, Callable], str, int]] = {
    "no GPU": ({"gpus": lambda: []}, "", 0),
    "a GPU": ({}, "", 1),
    "an image": ({"gpus": lambda: [], "gsplat_archs": lambda: ["9.0"]}, "", 1),
    "compiled": ({"gsplat_state": lambda: "compiled"}, "", 0),
    "no compiler": (
        {"gsplat_state": lambda: "no compiler"},
        "the GPU will not be used: gsplat has to compile its kernels and no CUDA toolkit",
        0,
    ),
    "an old driver": ({"driver_cuda": lambda: "11.8"}, "the GPU will not be used: torch ", 0),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_compiled_for_the_gpu(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, told, builds = CASES[case]
    for name, value in {**NEEDED, **changes}.items():
        monkeypatch.setattr(machine, name, value)
    built: list[Path] = []
    monkeypatch.setattr(gsplat_build, "build", lambda report: built.append(Path()))
    warmup._compile_for_gpu()
    assert len(built) == builds and capsys.readouterr().err.startswith(told)
