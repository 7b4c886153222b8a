"""Facts about the machine, against torch's own word where torch knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    package, cache = tmp_path / "gsplat", tmp_path / "cache"
    package.mkdir()
    monkeypatch.setattr(machine, "_package_folder", lambda name: package)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(cache))
    monkeypatch.setattr(machine, "nvcc", lambda: None)
    (cache / "py311_cu128" / "gsplat_cuda").mkdir(parents=True)
    (cache / "py311_cu128" / "gsplat_cuda" / "gsplat_cuda.so").touch()
    assert machine.gsplat_state() == "no compiler"
    monkeypatch.setattr(machine, "nvcc", lambda: "/cuda/bin/nvcc")
    assert machine.gsplat_state() == "compiled"
    (cache / "py311_cu128" / "gsplat_cuda" / "gsplat_cuda.so").unlink()
    assert machine.gsplat_state() == "to be compiled"
    (package / "csrc.cpython-311-x86_64-linux-gnu.so").touch()
    assert machine.gsplat_state() == "pre-built"
    monkeypatch.setattr(machine, "_package_folder", lambda name: None)
    assert machine.gsplat_state() == "absent"


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
