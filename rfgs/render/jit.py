"""How kernels are compiled, kept on disk, and run on several threads.

A `Kernel` compiles on first use, for one signature, and Numba keeps the machine code on disk: next to this file, or in
the user's cache directory where that is read-only, or in NUMBA_CACHE_DIR. Where none of these can be, or somebody else could put
code there, it is in `rfgs.models.places.cache_folder`.

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

from rfgs.models.places import cache_folder, others_can_write
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
        dispatcher = _kept(self._function, report)
        how = "once, about 10 s"
        if dispatcher is None:
            dispatcher = numba.njit(**_OPTIONS)(self._function)
            how = (
                "about 10 s, at each start: no folder can be written to that keeps it; name one in RFGS_CACHE"
            )
        # (throws old code away, so it is asked for every kernel)
        cached = _is_cached(dispatcher, self._function)
        if not cached and not Kernel.said_so:
            report(f"compiling the CPU rasterizer for this processor ({how}) ...")
            Kernel.said_so = True
        try:
            dispatcher.compile(self._signature)
        except OSError:  # It cannot be kept, as on a full disk, and works all the same.
            dispatcher = numba.njit(**_OPTIONS)(self._function)
            dispatcher.compile(self._signature)
        # Arguments are converted to the signature. Else the first call with a Python float for a float32 would compile, and
        # from then on use, a second version for float64: five seconds of a first run, and other arithmetic than declared.
        dispatcher.disable_compile()
        return dispatcher


_OPTIONS = {"nogil": True, "error_model": "numpy"}


def _kept(function: Callable, report: Callable[[str], None]) -> Any:
    """A dispatcher that keeps its code where Numba would, or in our own folder where that cannot be, or somebody else could
    change it; None where nothing can be kept."""
    # Without a home Numba would make a folder called "~".
    dispatcher = None if os.path.expanduser("~") == "~" else _kept_in(numba.config.CACHE_DIR, function)
    if dispatcher is not None:
        folder = Path(dispatcher.stats.cache_path)
        files = [folder, *folder.glob(f"*.{function.__qualname__}-*")]
        problem = next(filter(None, map(others_can_write, files)), None)
        if problem is None:
            return dispatcher
        _say_once(
            f"the compiled kernels in {folder} are not used, since {problem}; rfgs keeps its own", report
        )
    own = cache_folder() / "kernels"
    try:
        own.mkdir(parents=True, exist_ok=True)
        own.chmod(0o700)  # Whatever the mode of the folders that Numba makes in it.
    except OSError:
        return None
    return _kept_in(str(own), function)


def _kept_in(place: str, function: Callable) -> Any:
    """A dispatcher that keeps its code in a folder, "" for what Numba finds best; None if it cannot."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, place
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # Numba found no directory that it may write to.
        return None
    finally:
        numba.config.CACHE_DIR = before


_said: set[str] = set()


def _say_once(line: str, report: Callable[[str], None]) -> None:
    if line not in _said:
        _said.add(line)
        report(line)


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
