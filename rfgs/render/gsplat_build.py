"""Compiling gsplat's CUDA kernels, shown and logged, before anything waits for them; and loading what was compiled.

gsplat compiles at its first CUDA operation, silently, which here would be the first render after a large download. Its own
build has no name for the torch it was made for, and wants the compiler again whenever it is loaded; this one is a
file whose folder names all that it depends on (`rfgs.models.machine.gsplat_build`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.models.cuda import gsplat_problem

PROGRAM = "from gsplat.cuda._backend import _C\nassert _C is not None, 'no CUDA toolkit was found'\n"
"""What makes gsplat compile, in a process of its own."""
_MOST_JOBS = 10
"""Compilers at a time, gsplat's own default."""


def build(report: Callable[[str], None]) -> Path:
    """Compile gsplat's kernels for this Python, torch and GPU, unless that was done; the file with them.

    `report` gets a line at the start and one for each file that is compiled. Two processes do not compile the same.

    Raises:
        UserError: it cannot be compiled here, or the compiler failed: then with the end of its words, and where all are.
    """
    target = machine.gsplat_build()
    if target.is_file():
        return target
    problem = gsplat_problem()
    if problem:
        raise UserError(problem)
    if not machine.gsplat_archs():
        raise UserError(
            "gsplat's kernels are compiled for a GPU, and none is here; name what for in TORCH_CUDA_ARCH_LIST, such as 9.0"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_file():
                _build(target, report)
    except OSError as error:
        raise UserError(
            f"gsplat's kernels cannot be compiled in {target.parent} ({error}); name another folder in RFGS_CACHE"
        ) from error
    return target


def _build(target: Path, report: Callable[[str], None]) -> None:
    log, began = target.with_name("build.log"), time.perf_counter()
    report(f"compiling gsplat's CUDA kernels, once, which takes minutes; the compiler's words go to {log}")
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        with (
            open(log, "w", encoding="utf-8", errors="replace") as stream,
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=environment(Path(work)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # So that the compilers go with it, whatever ends this process.
            ) as process,
        ):
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    stream.write(line)
                    stream.flush()
                    done = re.match(r"\[(\d+/\d+)\] .*?([\w.]+\.(?:cu|cpp))\b", line)
                    if done:
                        report(f"gsplat {done[1]}: {done[2]}, {time.perf_counter() - began:.0f} s")
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        made = next(Path(work).rglob(target.name), None)
        if process.returncode != 0 or made is None:
            raise UserError(
                f"gsplat's CUDA kernels cannot be compiled: {end_of(log.read_text(encoding='utf-8'))} (all in {log})"
            )
        os.replace(made, target)
    report(f"gsplat's CUDA kernels are compiled, in {time.perf_counter() - began:.0f} s")


def environment(work: Path) -> dict[str, str]:
    """The environment in which gsplat compiles into the folder `work`."""
    found = dict(os.environ)
    found |= {
        "TORCH_EXTENSIONS_DIR": str(work),
        "TORCH_CUDA_ARCH_LIST": ";".join(machine.gsplat_archs()),
        "VERBOSE": "1",  # Has gsplat pass on what the compiler says.
        # ninja, which a program that is called by its path does not find otherwise.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    found.setdefault("MAX_JOBS", str(min(machine.usable_cores(), _MOST_JOBS)))
    compiler = machine.nvcc()
    if compiler is not None:
        home = Path(compiler).parent.parent
        found["CUDA_HOME"] = str(home)
        # NVIDIA's wheels have the library of the runtime under its full name only, and linkers want the short one.
        runtime = next(iter(sorted((home / "lib").glob("libcudart.so.*"))), None)
        if runtime is not None and not (home / "lib" / "libcudart.so").exists():
            (work / "lib").mkdir()
            (work / "lib" / "libcudart.so").symlink_to(runtime)
            paths = [str(work / "lib"), os.environ.get("LIBRARY_PATH", "")]
            found["LIBRARY_PATH"] = os.pathsep.join(path for path in paths if path)
    return found


_GENERAL = re.compile(r"Error building extension|CalledProcessError|ninja: build stopped|errors? detected in")
"""Lines that only say that there was an error."""


def end_of(log: str) -> str:
    """The line of a build's log that says best why it failed: the first that tells of an error, else the last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\berror\b|fatal|Error: ", line, re.IGNORECASE)]
    chosen = (
        [line for line in telling if not _GENERAL.search(line)] or lines[-1:] or ["the compiler said nothing"]
    )
    return chosen[0] if len(chosen[0]) <= 300 else f"{chosen[0][:297]}..."


def load(file: Path) -> None:
    """Have gsplat use the kernels in `file`.

    Raises:
        UserError: they cannot be loaded.
    """
    import gsplat
    import torch  # noqa: F401  # Whose libraries the kernels are linked with.

    try:
        spec = importlib.util.spec_from_file_location("gsplat_cuda", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise UserError(
            f"gsplat's CUDA kernels cannot be loaded ({error}); remove {file.parent} and run `rfgs warmup`"
        ) from error
    # Where gsplat looks for kernels that came with it, before it thinks of compiling.
    gsplat.csrc = module
    sys.modules["gsplat.csrc"] = module
