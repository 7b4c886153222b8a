"""What this machine has: versions, processor, GPU, compiler, memory. Facts only, and none costs an import of torch.

`rfgs doctor` prints them, a run's record keeps them, and the checks before work decide by them.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rfgs.models import threads
from rfgs.models.places import expanded

LIBRARIES = (
    "torch",
    "openvino",
    "numpy",
    "numba",
    "gsplat",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "huggingface_hub",
    "plyfile",
    "viser",
    "tyro",
)


def version(library: str) -> str | None:
    """The installed version of a library by its name on the package index; None where it is absent."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Versions of rfgs itself, Python and the libraries that a result depends on."""
    from rfgs import __version__

    return {
        "rfgs": __version__,
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def git_commit() -> str | None:
    """The commit of the checkout that rfgs runs from, with "+changes" if files differ; None if installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_model() -> str:
    """The processor's name and the number of cores this process may use, such as "Intel Xeon, 2 cores"."""
    name = platform.processor() or platform.machine()
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = match[1].strip() if match else name
    except OSError:
        pass
    return f"{name}, {usable_cores()} cores"


def usable_cores() -> int:
    """Cores this process may compute on, which containers set below the machine's number (`rfgs.models.threads`)."""
    return threads.cores()


def peak_memory() -> int | None:
    """The largest resident set of this process so far, in bytes; None on systems that do not tell."""
    try:
        import resource
    except ImportError:  # Windows.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    name: str
    memory: int
    """Bytes."""


def gpus() -> list[Gpu]:
    """The GPUs of the NVIDIA driver, asked directly: this takes milliseconds where importing torch takes seconds.

    Empty without a driver, or with CUDA_VISIBLE_DEVICES hiding them all.
    """
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            cuda = ctypes.CDLL(library)
            break
        except OSError:
            continue
    else:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        device, name, size = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, len(name), device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        found.append(Gpu(name.value.decode(errors="replace"), size.value))
    return found


def torch_cuda() -> str | None:
    """The CUDA version that the installed torch was built with, such as "12.8"; None for a CPU build or no torch.

    Read from torch's version file, since importing torch takes seconds.
    """
    location = _package_folder("torch")
    try:
        text = (location / "version.py").read_text() if location else ""
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def nvcc() -> str | None:
    """The path of the CUDA compiler where torch's extension builder looks: CUDA_HOME, the PATH, /usr/local/cuda."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    candidates = [Path(home) / "bin" / "nvcc" for home in homes if home]
    on_path = shutil.which("nvcc")
    candidates += [Path(on_path)] if on_path else []
    candidates.append(Path("/usr/local/cuda/bin/nvcc"))
    return next((str(path) for path in candidates if path.is_file()), None)


def nvcc_version(path: str) -> str | None:
    """The CUDA release of a compiler, such as "12.8"; None if it does not run."""
    try:
        text = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"release ([\d.]+)", text)
    return match[1] if match else None


GsplatState = Literal["absent", "no compiler", "to be compiled", "compiled", "pre-built"]


def gsplat_state() -> GsplatState:
    """How far gsplat's CUDA kernels are from running; the first two mean that they cannot.

    gsplat looks for the CUDA toolkit even where it has compiled before, so a cached build alone is not enough.
    """
    location = _package_folder("gsplat")
    if location is None:
        return "absent"
    if any(location.glob("csrc*.so")) or any(location.glob("csrc*.pyd")):
        return "pre-built"
    if nvcc() is None:
        return "no compiler"
    builds = os.environ.get("TORCH_EXTENSIONS_DIR")
    cache = Path(builds) if builds else expanded("~/.cache/torch_extensions")
    return "compiled" if any(cache.glob("**/gsplat_cuda/gsplat_cuda*.so")) else "to be compiled"


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
