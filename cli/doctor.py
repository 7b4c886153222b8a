"""`rfgs doctor`: what this machine has, and what would run on it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.models.machine import Gpu


@dataclass
class Doctor:
    """Say what this machine has, and which backends would run on it.

    Looks at files and drivers only, so it takes no longer than a moment; with --test it tries them.
    """

    cards: bool = False
    """Say instead what graphics cards of 8 to 48 GiB could run, and with how much of their memory."""
    test: bool = False
    """Try instead what a run needs, on the GPU where there is one: compile, compare the rasterizers, and make 30 steps with
    tiny-sd3. Two minutes at most, once gsplat's kernels are compiled."""

    def run(self) -> None:
        """Prints one line for each fact; a problem comes with its remedy."""
        from rfgs.models import available

        from . import checks

        if self.cards:
            print(_cards())
            return
        if self.test:
            _test()
            return

        versions = machine.versions()
        rows = [
            ("rfgs", f"{versions['rfgs']}, Python {versions['python']} at {sys.executable}"),
            ("processor", machine.cpu_model()),
            ("torch", f"{versions['torch'] or 'not installed'}, built for {_build()}"),
        ]
        rows += [("GPU", _gpu(gpu)) for gpu in machine.gpus()] or [("GPU", "none")]
        rows.append(("engine", f"OpenVINO {versions['openvino']}" if versions["openvino"] else _NO_ENGINE))
        compiler = machine.nvcc()
        release = machine.nvcc_version(compiler) if compiler else None
        rows.append(("nvcc", f"{release} at {compiler}" if compiler else "none"))
        rows.append(
            ("gsplat", f"{versions['gsplat'] or 'not installed'}, {_KERNELS[machine.gsplat_state()]}")
        )
        rows.append(("disk", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB free at {Path.cwd()}"))
        rows.append(("model hub", available.hub_state()))

        cuda = checks.cuda_problem()
        kernels = None if cuda else checks.gsplat_problem()
        rows.append(("--device", "cuda" if not (cuda or kernels) else "cpu"))
        rows += [("", f"no cuda: {problem}") for problem in (cuda, kernels) if problem]
        gpus = machine.gpus() if cuda is None else []
        memory = gpus[0].memory if gpus else None
        overview = available.overview(gpu=cuda is None, memory=memory)
        rows += [("--backend", f"{name}: {status}") for name, status in overview]
        rows.append(
            ("", "memory is estimated, not measured; rfgs doctor --cards says what other cards could run")
        )
        width = max(len(label) for label, _ in rows)
        for label, text in rows:
            print(f"{label:<{width}}  {text}")


_NO_ENGINE = "torch; on the CPU models evaluate faster with OpenVINO: `pip install 'rfgs[openvino]'`, or ./setup.sh again"
_KERNELS = {
    "absent": "no CUDA kernels",
    "no compiler": "CUDA kernels neither pre-built nor to be compiled (no nvcc)",
    "to be compiled": "CUDA kernels to be compiled, once, by `rfgs warmup` or the first run, which takes minutes",
    "compiled": "CUDA kernels compiled for this Python, torch and GPU",
    "pre-built": "CUDA kernels pre-built",
}


def _test() -> None:
    """Prints a line for each check and then "works"; what does not is an error."""
    from . import checks

    device = checks.check_device("auto")
    if not machine.gpus():
        print("no NVIDIA GPU is visible, so this is tested on the CPU", flush=True)
    from rfgs.measure.selftest import checks as tests

    failed = []
    for outcome in tests(device, lambda message: print(message, file=sys.stderr, flush=True)):
        print(f"{outcome.name}: {outcome.detail}{'' if outcome.works else ' (does not work)'}", flush=True)
        failed += [] if outcome.works else [outcome]
    if failed:
        raise UserError(f"does not work on the {device}: {failed[0].name}: {failed[0].detail}")
    print(f"works, on the {device}")


def _cards() -> str:
    """A table: backends by sizes of cards, the estimated peak and the views of each step."""
    from rfgs.models.memory import CARDS, FOOTPRINTS, GIB, plan

    lines = [["estimated peak, GiB", *[f"{size} GiB card" for size in CARDS]]]
    for name in FOOTPRINTS:
        cells = []
        for size in CARDS:
            found = plan(name, size * GIB)
            marks = "*" * (found.slice_views + found.half_encoder) if found else ""
            cells.append(f"{found.total / GIB:.1f} ({found.views} views{marks})" if found else "-")
        lines.append([name, *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    key = "views of 512 pixels in each step; * one by one, a little slower; ** also encoded in half precision"
    return "\n".join([*table, key])


def _gpu(gpu: Gpu) -> str:
    text = f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB"
    if gpu.capability:
        text += ", compute capability {}.{}".format(*gpu.capability)
    return f"{text}; the driver supports CUDA {machine.driver_cuda()}"


def _build() -> str:
    cuda = machine.torch_cuda()
    return f"CUDA {cuda}" if cuda else "the CPU"
