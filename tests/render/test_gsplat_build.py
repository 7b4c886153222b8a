"""gsplat's kernels are compiled once, shown and logged, and a compiler that fails is one line; with programs in its place."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import gsplat
import pytest
import torch

from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.render import gsplat_build, on_gsplat

COMPILES = """
import os, pathlib
print("[1/3] /cuda/bin/nvcc -I/x -c /gsplat/csrc/AdamCUDA.cu -o AdamCUDA.cuda.o", flush=True)
print("[2/3] c++ -MMD -c /gsplat/ext.cpp -o ext.o", flush=True)
print("[3/3] c++ *.o -shared -o gsplat_cuda.so", flush=True)
folder = pathlib.Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "gsplat_cuda"
folder.mkdir()
(folder / "gsplat_cuda.so").write_text(os.environ["TORCH_CUDA_ARCH_LIST"] + " " + os.environ["CUDA_HOME"])
"""
FAILS = r"""
print('''[1/2] c++ -c /gsplat/ext.cpp -o ext.o
FAILED: AdamCUDA.cuda.o
/cuda/bin/nvcc -c AdamCUDA.cu
nvcc fatal   : Unsupported gpu architecture 'compute_130'
ninja: build stopped: subcommand failed.
Traceback (most recent call last):
  File "cpp_extension.py", line 2, in _run_ninja_build
RuntimeError: Error building extension 'gsplat_cuda\'''')
raise SystemExit(1)
"""


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with an H100 and a toolkit as the package index has it, whose compiler is of torch's release."""
    home = tmp_path / "cu13"
    (home / "lib").mkdir(parents=True)
    (home / "lib" / "libcudart.so.13").touch()
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("H100", 80 << 30, (9, 0))])
    monkeypatch.setattr(machine, "torch_cuda", lambda: "13.0")
    monkeypatch.setattr(machine, "nvcc", lambda: str(home / "bin" / "nvcc"))
    monkeypatch.setattr(machine, "nvcc_version", lambda path: "13.0")
    return home


def test_they_are_compiled_once_and_shown(with_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsplat_build, "PROGRAM", COMPILES)
    lines: list[str] = []
    assert machine.gsplat_state() == "to be compiled"
    file = gsplat_build.build(lines.append)
    assert machine.gsplat_state() == "compiled" and file == machine.gsplat_build()
    assert file.read_text() == f"9.0 {with_gpu}"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    expected = f"gsplat-{gsplat.__version__}-python{python}-torch{torch.__version__}-cuda13.0-sm9.0"
    assert file.parent.name == expected
    log = file.with_name("build.log")
    assert "nvcc -I/x" in log.read_text() and str(log) in lines[0]
    shown = [line.partition(",")[0] for line in lines[1:-1]]
    assert shown == ["gsplat 1/3: AdamCUDA.cu", "gsplat 2/3: ext.cpp"]
    monkeypatch.setattr(gsplat_build, "PROGRAM", FAILS)
    assert gsplat_build.build(lines.append) == file and len(lines) == 4


def test_another_torch_python_or_card_is_another_build(
    with_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gsplat_build, "PROGRAM", COMPILES)
    gsplat_build.build(lambda line: None)
    for name, value in {
        "gpus": lambda: [machine.Gpu("A100", 80 << 30, (8, 0))],
        "torch_cuda": lambda: "13.1",
        "version": lambda library: "2.99",
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(machine, name, value)
            assert machine.gsplat_state() == "to be compiled", name
    assert machine.gsplat_state() == "compiled"


def test_a_build_for_several_cards_serves_each(with_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsplat_build, "PROGRAM", COMPILES)
    card = machine.gpus
    monkeypatch.setattr(machine, "gpus", lambda: [])
    with pytest.raises(UserError, match="none is here; name what for in TORCH_CUDA_ARCH_LIST"):
        gsplat_build.build(lambda line: None)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    file = gsplat_build.build(lambda line: None)
    assert file.read_text().startswith("8.0;9.0 ")
    monkeypatch.setattr(machine, "gpus", card)
    assert machine.gsplat_build() == file


def test_a_compiler_that_fails_is_one_line(with_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsplat_build, "PROGRAM", FAILS)
    with pytest.raises(UserError) as error:
        gsplat_build.build(lambda line: None)
    log = machine.gsplat_build().with_name("build.log")
    assert str(error.value) == (
        "gsplat's CUDA kernels cannot be compiled: nvcc fatal   : Unsupported gpu architecture 'compute_130' "
        f"(all in {log})"
    )
    assert "FAILED: AdamCUDA.cuda.o" in log.read_text() and machine.gsplat_state() == "to be compiled"
    assert sorted(path.name for path in log.parent.iterdir() if path.suffix != ".lock") == ["build.log"]


@pytest.mark.parametrize(
    ("log", "line"),
    {
        "x.cu(12): error: identifier is undefined\n1 error detected in x.cu\n": "x.cu(12): error: identifier is undefined",
        "RuntimeError: Ninja is required to load C++ extensions\n": "RuntimeError: Ninja is required to load C++ extensions",
        "a\n\nKilled\n\n": "Killed",
        "RuntimeError: Error building extension\n": "RuntimeError: Error building extension",
        "": "the compiler said nothing",
        "error: " + 400 * "x": "error: " + 290 * "x" + "...",
    }.items(),
)
def test_the_line_that_says_why(log: str, line: str) -> None:
    assert gsplat_build.end_of(log) == line


def test_the_linker_finds_the_runtime_of_the_package_index(with_gpu: Path, tmp_path: Path) -> None:
    found = gsplat_build.environment(tmp_path)
    assert (tmp_path / "lib" / "libcudart.so").resolve() == with_gpu / "lib" / "libcudart.so.13"
    assert found["LIBRARY_PATH"].split(":")[0] == str(tmp_path / "lib")
    assert found["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_a_cache_that_cannot_be_written(with_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RFGS_CACHE", str(with_gpu / "lib" / "libcudart.so.13"))
    with pytest.raises(UserError, match="name another folder in RFGS_CACHE"):
        gsplat_build.build(lambda line: None)


def test_gsplat_takes_what_was_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsplat, "csrc", None, raising=False)
    monkeypatch.setitem(sys.modules, "gsplat.csrc", types.ModuleType("none"))
    monkeypatch.delitem(sys.modules, "gsplat.cuda._backend", raising=False)
    # Some real extension in its place: Python asks for the function named after the module.
    import _ctypes

    monkeypatch.setattr(
        gsplat_build.importlib.util, "spec_from_file_location", lambda name, file: _ctypes.__spec__
    )
    gsplat_build.load(tmp_path / "gsplat_cuda.so")
    from gsplat.cuda._backend import _C

    assert _C.__name__ == "_ctypes"
    monkeypatch.undo()
    sys.modules.pop("gsplat.cuda._backend", None)
    (tmp_path / "gsplat_cuda.so").write_text("no library")
    with pytest.raises(UserError, match=r"cannot be loaded \(.*\); remove .* and run `rfgs warmup`"):
        gsplat_build.load(tmp_path / "gsplat_cuda.so")


def test_once_a_process(with_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(on_gsplat, "_prepared", set())
    monkeypatch.setattr("rfgs.models.card.check_card", lambda device: done.append("card"))
    monkeypatch.setattr(gsplat_build, "build", lambda report: done.append("build") or Path("x"))
    monkeypatch.setattr(gsplat_build, "load", lambda file: done.append(f"load {file}"))
    on_gsplat.prepare()
    on_gsplat.prepare(print)
    assert done == ["card", "build", "load x"]
