"""What this machine has: versions, processor, GPU, compiler, memory. Facts only, and none costs an import of torch.

`rfgs doctor` prints them, a run's record keeps them, and the checks before work decide by them.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
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
from typing import Any, Literal

from rfgs.models import threads
from rfgs.models.places import cache_folder

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
    capability: tuple[int, int] | None = None
    """Compute capability, such as (9, 0)."""


def gpus() -> list[Gpu]:
    """The GPUs of the NVIDIA driver, asked directly: this takes milliseconds where importing torch takes seconds.

    Empty without a driver, or with CUDA_VISIBLE_DEVICES hiding them all.
    """
    cuda = _driver()
    count = ctypes.c_int()
    if cuda is None or cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        device, name, size = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
        major, minor = ctypes.c_int(), ctypes.c_int()
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, len(name), device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
        capability = (major.value, minor.value) if major.value else None
        found.append(Gpu(name.value.decode(errors="replace"), size.value, capability))
    return found


_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the driver's interface."""


def driver_cuda() -> str | None:
    """The newest CUDA release that the NVIDIA driver can run, such as "12.4"; None without a driver."""
    cuda, found = _driver(), ctypes.c_int()
    if cuda is None or cuda.cuDriverGetVersion(ctypes.byref(found)) != 0:
        return None
    return f"{found.value // 1000}.{found.value % 1000 // 10}"


def _driver() -> Any:
    """The driver's library, None where there is none."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(library)
        except OSError:
            continue
    return None


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
    """The path of the CUDA compiler: from CUDA_HOME, from the package index, from the PATH or /usr/local/cuda.

    Of several, the first that has its headers beside it: some distributions put a mere script on the PATH.
    """
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    candidates = [Path(home) / "bin" / "nvcc" for home in homes if home]
    # NVIDIA's wheels from CUDA 13 on, which torch's own come with; earlier ones have no compiler in them.
    nvidia = importlib.util.find_spec("nvidia")
    for place in nvidia.submodule_search_locations or [] if nvidia else []:
        candidates += sorted(Path(place).glob("cu*/bin/nvcc"), reverse=True)
    on_path = shutil.which("nvcc")
    candidates += [Path(on_path)] if on_path else []
    candidates.append(Path("/usr/local/cuda/bin/nvcc"))
    found = [path for path in candidates if path.is_file()]
    whole = [path for path in found if (path.parent.parent / "include" / "cuda_runtime.h").is_file()]
    return next((str(path) for path in [*whole, *found]), None)


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
    """How far gsplat's CUDA kernels are from running with this Python and torch on this GPU.

    The first two mean that they cannot.
    """
    location = _package_folder("gsplat")
    if location is None:
        return "absent"
    if any((location / f"csrc{suffix}").is_file() for suffix in importlib.machinery.EXTENSION_SUFFIXES):
        return "pre-built"
    if gsplat_build().is_file():
        return "compiled"
    return "no compiler" if nvcc() is None else "to be compiled"


def gsplat_build() -> Path:
    """The file of gsplat's kernels as `rfgs warmup` compiles them: one that is there, or where it would be.

    Its folder is named for all that a build depends on, so that none is ever taken for another.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"gsplat-{version('gsplat')}-python{python}-torch{version('torch')}-cuda{torch_cuda()}-sm"
    folder, archs = cache_folder() / "kernels", gsplat_archs()
    for file in sorted(folder.glob(f"{name}*/gsplat_cuda.so")):
        if archs and set(archs) <= set(file.parent.name[len(name) :].split("+")):
            return file
    return folder / (name + "+".join(archs)) / "gsplat_cuda.so"


def gsplat_archs() -> list[str]:
    """Compute capabilities that gsplat is compiled for, such as ["9.0"]: the first GPU's, which rfgs computes on.

    Where there is no GPU, those that TORCH_CUDA_ARCH_LIST names, as for an image of a machine; none without either.
    """
    found = gpus()
    if found and found[0].capability:
        return ["{}.{}".format(*found[0].capability)]
    return re.findall(r"\d+\.\d+", os.environ.get("TORCH_CUDA_ARCH_LIST", ""))


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
