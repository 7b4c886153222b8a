"""Facts about the machine, against torch's own word where torch knows."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest
import torch

from rfgs.models import machine


def test_torch_is_read_without_importing_it() -> None:
    script = "import sys; from rfgs.models import machine; print(machine.torch_cuda()); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(torch.version.cuda)
    assert machine.version("torch") == torch.__version__


def test_the_commit_is_that_of_the_checkout() -> None:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    commit = machine.git_commit()
    if found.returncode:  # Tests of a copy without its history.
        assert commit is None
    else:
        assert commit is not None and commit.removesuffix("+changes") == found.stdout.strip()


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "12.8"),
        ("__version__ = '2.4.0'\ncuda = '12.1'\n", "12.1"),
        ("__version__ = '2.9.0+cpu'\ncuda: Optional[str] = None\n", None),
    ],
)
def test_cuda_release_of_torch(
    text: str, cuda: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version.py").write_text(text)
    monkeypatch.setattr(machine, "_package_folder", lambda name: tmp_path)
    assert machine.torch_cuda() == cuda


def test_gpus_agree_with_torch() -> None:
    assert len(machine.gpus()) == torch.cuda.device_count()


def test_missing_library() -> None:
    assert machine.version("no-such-library-here") is None
    assert machine.versions()["rfgs"]


def test_state_of_gsplat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gsplat"
    package.mkdir()
    monkeypatch.setattr(machine, "_package_folder", lambda name: package)
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("a GPU", 2**34, (8, 6))])
    monkeypatch.setattr(machine, "nvcc", lambda: None)
    assert machine.gsplat_state() == "no compiler"
    monkeypatch.setattr(machine, "nvcc", lambda: "/cuda/bin/nvcc")
    assert machine.gsplat_state() == "to be compiled"
    machine.gsplat_build().parent.mkdir(parents=True)
    machine.gsplat_build().touch()
    assert machine.gsplat_state() == "compiled"
    monkeypatch.setattr(machine, "nvcc", lambda: None)
    assert machine.gsplat_state() == "compiled", "what is compiled needs no compiler"
    machine.gsplat_build().unlink()
    (package / "csrc.cpython-27.so").touch()
    assert machine.gsplat_state() == "no compiler", "of another Python"
    (package / f"csrc{EXTENSION_SUFFIXES[0]}").touch()
    assert machine.gsplat_state() == "pre-built"
    monkeypatch.setattr(machine, "_package_folder", lambda name: None)
    assert machine.gsplat_state() == "absent"


class FakeDriver:
    """The driver's library of a machine with one GPU."""

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDriverGetVersion(self, found: Any) -> int:
        found._obj.value = 12040
        return 0

    def cuDeviceGetCount(self, found: Any) -> int:
        found._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceTotalMem_v2(self, found: Any, device: Any) -> int:
        found._obj.value = 80 << 30
        return 0

    def cuDeviceGetAttribute(self, found: Any, attribute: int, device: Any) -> int:
        found._obj.value = {75: 9, 76: 0}[attribute]
        return 0


def test_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda library: FakeDriver())
    assert machine.driver_cuda() == "12.4"
    assert machine.gpus() == [machine.Gpu("NVIDIA H100", 80 << 30, (9, 0))]


def test_the_compiler_with_its_headers_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "script"))
    monkeypatch.setenv("PATH", str(tmp_path / "whole" / "bin"))
    for name in ("script", "whole"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "nvcc").touch(mode=0o755)
    assert machine.nvcc() in (str(tmp_path / "script/bin/nvcc"), "/usr/local/cuda/bin/nvcc")
    (tmp_path / "whole" / "include").mkdir()
    (tmp_path / "whole" / "include" / "cuda_runtime.h").touch()
    assert machine.nvcc() == str(tmp_path / "whole/bin/nvcc")
    package = tmp_path / "site" / "nvidia" / "cu13"
    for file in ("bin/nvcc", "include/cuda_runtime.h"):
        (package / file).parent.mkdir(parents=True)
        (package / file).touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert machine.nvcc() == str(package / "bin" / "nvcc"), "what came with torch, before others"


def test_release_of_the_compiler(tmp_path: Path) -> None:
    compiler = tmp_path / "nvcc"
    compiler.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
    compiler.chmod(0o755)
    assert machine.nvcc_version(str(compiler)) == "12.4"
    assert machine.nvcc_version(str(tmp_path / "nothing")) is None


def test_peak_memory_follows_an_allocation() -> None:
    before = machine.peak_memory()
    block = bytearray(before + 2**26)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    assert machine.peak_memory() >= before + 2**25
