"""Machine code on disk."""

import importlib
import os
import time

from rfgs.render import jit

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
