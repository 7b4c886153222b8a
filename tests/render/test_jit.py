"""Machine code on disk."""

import importlib
import os
import time

import pytest

from rfgs.render import bin, composite, cpu, jit, project

_CONSTANT = "STEP = {step}\n"
_KERNELS = """
from constant import STEP
from rfgs.render.jit import COUNTER, kernel

@kernel(f"void({COUNTER})")
def one(out):
    out[0] = 1 + STEP

@kernel(f"void({COUNTER})")
def two(out):
    out[0] = 2 + STEP
"""


def test_code_older_than_any_source_is_made_anew(tmp_path, monkeypatch):
    """Every kernel's, and not only the first one's, of which the user is told."""
    import numpy as np

    constant, kernels = tmp_path / "constant.py", tmp_path / "some_kernels.py"
    kernels.write_text(_KERNELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(jit, "_SOURCES", (str(constant), str(kernels)))
    said = []
    monkeypatch.setattr(jit, "_to_stderr", said.append)

    def results(step, changed):
        constant.write_text(_CONSTANT.format(step=step))
        os.utime(constant, (changed, changed))
        importlib.invalidate_caches()
        modules = [importlib.reload(importlib.import_module(name)) for name in ("constant", "some_kernels")]
        monkeypatch.setattr(jit.Kernel, "said_so", False)
        out = np.zeros(1, np.int64)
        values = []
        for each in (modules[1].one, modules[1].two):
            each.compile(said.append)
            each(out)
            values.append(int(out[0]))
        return values

    now = time.time()
    assert results(10, now - 100) == [11, 12] and len(said) == 1
    assert results(10, now - 100) == [11, 12] and len(said) == 1  # from the disk
    assert results(20, now + 100) == [21, 22] and len(said) == 2


def test_code_that_somebody_else_could_change_is_not_run(tmp_path, monkeypatch):
    """Numba's index is a pickle, which runs what it says."""
    import numpy as np

    (tmp_path / "open_kernels.py").write_text(_KERNELS.replace("from constant import STEP", "STEP = 3"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(jit, "_SOURCES", (str(tmp_path / "open_kernels.py"),))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__").chmod(0o777)
    said = []
    kernels = importlib.import_module("open_kernels")
    for each, value in ((kernels.one, 4), (kernels.two, 5)):
        out = np.zeros(1, np.int64)
        each.compile(said.append)
        each(out)
        assert out[0] == value
    told = [line for line in said if "not used" in line]
    folder = tmp_path / "__pycache__"
    assert told == [
        f"the compiled kernels in {folder} are not used, since everybody can write to it; rfgs keeps its own"
    ]
    assert not list(folder.glob("*.nbi")) and len(list((tmp_path / "own" / "kernels").rglob("*.nbi"))) == 2


def test_where_nothing_can_be_kept_kernels_are_compiled_at_each_start(tmp_path, monkeypatch):
    import numpy as np

    (tmp_path / "kept_nowhere.py").write_text(_KERNELS.replace("from constant import STEP", "STEP = 3"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(jit.os.path, "expanduser", lambda path: path)  # A user without a home.
    monkeypatch.setattr(jit.Kernel, "said_so", False)
    said, out = [], np.zeros(1, np.int64)
    kernel = importlib.import_module("kept_nowhere").one
    kernel.compile(said.append)
    kernel(out)
    assert out[0] == 4 and len(said) == 1 and "at each start: no folder can be written to" in said[0]
    assert not list(tmp_path.rglob("*.nbi"))


_OF_A_FLOAT = """
from rfgs.render.jit import F1, kernel

@kernel(f"void({F1}, float32)")
def third(out, x):
    out[0] = x / 3
"""


def test_a_call_converts_its_arguments_and_compiles_nothing(tmp_path, monkeypatch):
    """Numba would compile a second version for a Python float, within the first run of who has just set rfgs up."""
    import numpy as np

    (tmp_path / "of_a_float.py").write_text(_OF_A_FLOAT)
    monkeypatch.syspath_prepend(tmp_path)
    kernel, out = importlib.import_module("of_a_float").third, np.zeros(1, np.float32)
    kernel(out, 0.1)
    assert out[0] == np.float32(0.1) / np.float32(3)
    assert len(kernel.compile().signatures) == 1
    with pytest.raises(TypeError, match="No matching definition"):
        kernel(np.zeros(1), 0.1)


def test_a_run_compiles_nothing_that_warmup_has_not(scene):
    arguments = scene()
    for name in ("means", "quats", "scales", "opacities", "colors"):
        arguments[name].requires_grad_()
    colors, alphas, _ = cpu.rasterization(**arguments)
    (colors.sum() + alphas.sum()).backward()
    kernels = [
        each
        for module in (project, bin, composite)
        for each in vars(module).values()
        if isinstance(each, jit.Kernel)
    ]
    assert [len(each.compile().signatures) for each in kernels] == [1] * 9
