"""How kernels are compiled, kept on disk, and run on several threads.

A `Kernel` compiles on first use, for one signature, and Numba keeps the machine code on disk (next to this file, or in
the user's cache directory where that is read-only, or in NUMBA_CACHE_DIR).

Kernels are plain functions that release the GIL and take their items from a shared counter; `launch` calls them from a
small pool of Python threads. Numba's own `parallel=True` is not used: its OpenMP layer next to torch's makes two
runtimes that spin against each other (stalls of 10 ms per launch on a busy machine), its workqueue layer aborts the
process when a viewer renders while another thread trains, and both double the compile time.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from rfgs.models.threads import usable

_SOURCES = ("simd.py", "access.py", "project.py", "bin.py", "blocks.py", "composite.py")

_compiling = threading.RLock()


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Kernel:
    """A function compiled by Numba on its first call, for the one `signature`, and cached on disk."""

    said_so = False
    """Whether this process has told its user that it compiles."""

    def __init__(self, function: Callable, signature: str):
        self.name = function.__name__
        self._function = function
        self._signature = signature
        self._compiled: Callable | None = None

    def __call__(self, *args: Any) -> None:
        (self._compiled or self.compile())(*args)

    def compile(self, report: Callable[[str], None] = _to_stderr) -> Callable:
        """The machine code, from the disk or made now. Before it is made `report` gets one line, once per process."""
        with _compiling:
            if self._compiled is None:
                self._compiled = self._load(report)
            return self._compiled

    def _load(self, report: Callable[[str], None]) -> Callable:
        options = {"nogil": True, "error_model": "numpy"}
        try:
            dispatcher = numba.njit(cache=True, **options)(self._function)
        except RuntimeError:  # Numba found no directory that it may write to
            dispatcher = numba.njit(**options)(self._function)
        cached = _is_cached(
            dispatcher, self._function
        )  # (throws old code away, so it is asked for every kernel)
        if not cached and not Kernel.said_so:
            report("compiling the CPU rasterizer for this processor (once, about 10 s) ...")
            Kernel.said_so = True
        dispatcher.compile(self._signature)
        return dispatcher


def _is_cached(dispatcher: Any, function: Callable) -> bool:
    """Is machine code for this kernel on disk? Code older than the sources it is made of is thrown away.

    Numba compares only the file that holds the kernel, and would go on using code made from an older simd.py.
    """
    folder = dispatcher.stats.cache_path
    if folder is None:
        return False
    name = f"*.{function.__qualname__}-{function.__code__.co_firstlineno}.*"
    index = list(Path(folder).glob(f"{name}.nbi"))
    newest_source = max((Path(__file__).parent / source).stat().st_mtime for source in _SOURCES)
    if any(
        path.stat().st_mtime < newest_source for path in index
    ):  # (a second process may be doing the same)
        for path in Path(folder).glob(name):
            path.unlink(missing_ok=True)
        return False
    return bool(index)


def kernel(signature: str) -> Callable[[Callable], Kernel]:
    """Decorate a kernel. `signature` is Numba's text form; see `F1`, `F2`, ... below for the array types."""
    return lambda function: Kernel(function, signature)


device = numba.njit(error_model="numpy")  # for the helpers that kernels call

F1, F2, F3 = "float32[::1]", "float32[:,::1]", "float32[:,:,::1]"
I1, I2, COUNTER = "int32[::1]", "int32[:,::1]", "int64[::1]"

_WORTH_A_THREAD = 150.0  # microseconds


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(usable() - 1, 1), "rfgs-raster")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has none of its parent's threads


def threads_for(cost: float) -> int:
    """How many threads are worth waking for so many microseconds of work."""
    return min(torch.get_num_threads(), usable(), 1 + int(cost / _WORTH_A_THREAD))


def launch(function: Kernel, items: int, *args: Any, cost: float) -> None:
    """Run `function(counter, items, *args)` on several threads, this one included.

    The function takes items from `counter` until `items` are gone; results must not depend on who takes which item.
    `cost` is roughly the microseconds that all of it takes on one thread.
    """
    launch_together([(function, items, *args)], cost)


def launch_together(jobs: Sequence[tuple[Any, ...]], cost: float) -> None:
    """`launch` several `(function, items, *args)` that do not need one another: a thread that finds no item goes on to the
    next job, so that one with few items does not keep the others waiting."""
    jobs = [(function, np.zeros(1, np.int64), items, *args) for function, items, *args in jobs if items > 0]
    for function, *_ in jobs:
        function.compile()

    def work() -> None:
        for function, *args in jobs:
            function(*args)

    threads = min(threads_for(cost), sum(items for _, _, items, *_ in jobs))
    futures = [_pool().submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        # A thread that never came to start finds no items left; it must not start after the arrays are gone.
        for future in futures:
            if not future.cancel():
                future.result()
