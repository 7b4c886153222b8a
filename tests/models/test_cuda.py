"""What is told of a GPU before anything is compiled or downloaded for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rfgs.errors import UserError
from rfgs.models import card, cuda, machine
from rfgs.priors import load_prior

BUILT = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("a GPU", 2**34, (8, 6))])
    monkeypatch.setattr(machine, "version", lambda library: "2.13.0")


@pytest.mark.parametrize(
    ("driver", "torch_cuda", "told"),
    [
        ("12.4", "12.8", None),
        ("13.1", "12.8", None),
        (None, "12.8", None),
        (
            "12.4",
            "13.0",
            "torch 2.13.0 is built for CUDA 13.0 and the NVIDIA driver supports no more than 12.4; update the driver, or "
            "install a torch for CUDA 12 (https://pytorch.org)",
        ),
    ],
)
def test_the_driver(
    driver: str | None, torch_cuda: str, told: str | None, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "driver_cuda", lambda: driver)
    monkeypatch.setattr(machine, "torch_cuda", lambda: torch_cuda)
    assert cuda.cuda_problem() == told


@pytest.mark.parametrize(
    ("capability", "archs", "fits"),
    [
        ((9, 0), BUILT, True),
        ((8, 9), BUILT, True),  # By sm_86.
        ((12, 1), BUILT, True),
        ((13, 0), BUILT, True),  # Translated by the driver from compute_120.
        ((7, 0), BUILT, False),
        ((13, 0), BUILT[:-1], False),
        ((9, 1), ("sm_90a",), False),
        ((9, 0), ("sm_90a",), True),
        ((9, 0), (), True),  # Unknown.
        ((9, 0), ("gfx942",), True),
    ],
)
def test_the_compute_capability(capability: tuple[int, int], archs: tuple[str, ...], fits: bool) -> None:
    problem = cuda.card_problem(capability, archs)
    assert (problem is None) == fits
    if problem:
        assert f"compute capability {capability[0]}.{capability[1]}" in problem and archs[0] in problem


def test_a_card_without_code_is_told_before_the_model_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (5, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(BUILT))
    with pytest.raises(
        UserError, match=r"device cuda: the GPU has compute capability 5.0 and torch .* use the CPU"
    ):
        load_prior("/no/such/folder", device="cuda")


def test_a_device_that_is_not_there_is_a_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="device cuda: Torch not compiled with CUDA|device cuda: .*NVIDIA"):
        load_prior("tiny-sd3", device="cuda")


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bfloat16_is_none(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation
    )
    assert card.computes_bfloat16() == native


def test_a_prebuilt_gsplat_of_another_torch(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gsplat_state", lambda: "pre-built")
    monkeypatch.setattr(machine, "torch_cuda", lambda: "12.4")
    versions = {"gsplat": "1.5.3+pt24cu124", "torch": "2.4.1+cu124"}
    monkeypatch.setattr(machine, "version", versions.get)
    assert cuda.gsplat_problem() is None
    versions["torch"] = "2.9.0"
    told = cuda.gsplat_problem()
    assert told is not None and "is built for torch 2.4 and CUDA 12.4, and torch is 2.9.0" in told


def test_the_toolkit_of_the_package_index(gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gsplat_state", lambda: "no compiler")
    monkeypatch.setattr(machine, "torch_cuda", lambda: "13.0")
    assert cuda.toolkit() == "cuda-toolkit[cccl,crt,nvcc,nvvm]==13.0.*"
    told = cuda.gsplat_problem()
    assert told is not None and "`pip install 'cuda-toolkit[cccl,crt,nvcc,nvvm]==13.0.*'`" in told
    monkeypatch.setattr(machine, "torch_cuda", lambda: "12.8")
    assert cuda.toolkit() is None  # Its packages have no compiler in them.
    monkeypatch.setattr(machine, "torch_cuda", lambda: "13.0")
    monkeypatch.setattr(machine, "gsplat_state", lambda: "compiled")
    assert cuda.toolkit() is None
