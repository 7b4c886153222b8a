"""Checks of a command's input before any work: each failure is one line that names the value and the remedy.

Nothing here imports torch or diffusers, so that a slip of the pen is told at once and not after a download.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rfgs.errors import UserError
from rfgs.export.formats import FORMATS, format_of, source_of
from rfgs.models import catalog, machine, memory, single_file, weighing
from rfgs.models.cuda import cuda_problem, gsplat_problem
from rfgs.models.words import check_text

DeviceChoice = Literal["auto", "cpu", "cuda"]


def check_prompt(prompt: str) -> str:
    """The prompt without the white space around it; UserError where nothing is left."""
    words = " ".join(prompt.split())
    if not words:
        raise UserError(
            'the prompt is empty; say what to make, as in: rfgs generate "a red cube on a blue cylinder"'
        )
    return check_text(words)


def check_count(flag: str, value: int, example: int) -> int:
    """A number of things of which there has to be at least one."""
    if value < 1:
        raise UserError(f"{flag} {value}: has to be at least 1; try {flag} {example}")
    return value


def check_seed(seed: int) -> int:
    """A seed that torch's generators take."""
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: has to be a whole number from 0 to 2^63 - 1; try --seed 0")
    return seed


def check_max_splats(value: int, splats: int, densify: str) -> int:
    """A bound for densification.

    Raises:
        UserError: nothing is added that it could bound, or there are more splats at the start.
    """
    if densify == "none":
        raise UserError("--max-splats: bounds what --densify adds; leave out --densify none, or this")
    if value < splats:
        raise UserError(
            f"--max-splats {value}: is less than the {splats} splats of the start; try --max-splats {2 * splats}"
        )
    return value


def check_guidance_scale(scale: float) -> float:
    """A finite scale, 0 or more."""
    if not math.isfinite(scale) or scale < 0:
        raise UserError(
            f"--guidance-scale {scale:g}: has to be a number of at least 0 (1 means no guidance); "
            "try --guidance-scale 7.5"
        )
    return scale


def check_port(port: int) -> int:
    """A TCP port; 0 lets the system choose."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: has to be from 0 to 65535; try --port 8080")
    return port


def check_gpus(count: int, device: DeviceChoice) -> None:
    """As many GPUs as there are; on the CPU processes.

    Raises:
        UserError: fewer than one, or more than the machine has.
    """
    if count < 1:
        raise UserError(f"--gpus {count}: has to be at least 1")
    there = len(machine.gpus())
    if device != "cpu" and count > there:
        has = f"{there} GPU{'s' * (there > 1)}" if there else "no NVIDIA GPU"
        raise UserError(f"--gpus {count}: this machine has {has}; leave it out, or use --device cpu")


def check_share(views: int, processes: int) -> None:
    """At least one view for each process.

    Raises:
        UserError: there are fewer.
    """
    if views < processes:
        raise UserError(
            f"--views-per-step {views}: is less than the {processes} processes that share the views; "
            f"take --views-per-step {processes}, or fewer --gpus"
        )


def check_source(path: Path) -> Path:
    """The file of splats that a path names, which is there and of a format that is read."""
    return source_of(path)


def check_start(path: Path | None) -> str:
    """The full path of what a run starts from, so that it is found again from anywhere; empty for nothing."""
    if path is None:
        return ""
    if path.is_dir():
        check_source(path)
    elif not path.is_file():
        raise UserError(
            f"--start {path}: no such file; give splats, a mesh, a cloud of points or the folder of a run"
        )
    return str(path.resolve())


def check_exhibits(paths: Sequence[Path]) -> None:
    """Something to look at: files of splats, or folders of runs that have written some."""
    if not paths:
        raise UserError(
            "nothing to look at; name a file of splats (.ply) or the folder of a run, such as those in runs/"
        )
    for path in paths:
        if not path.is_dir():
            check_source(path)
        elif not (path / "splats.ply").is_file() and not any(path.glob("snapshots/*.ply")):
            raise UserError(
                f"{path}: holds no splats.ply; give a file of splats (.ply) or the folder of a run"
            )


def check_target(target: Path, *, overwrite: bool) -> None:
    """A file that may be written, in a format that is known by its suffix."""
    suffixes = [known.suffix for known in FORMATS]
    if not target.name.lower().endswith(tuple(suffixes)):
        raise UserError(f"{target}: no known format; end the name with one of {', '.join(suffixes)}")
    format_of(target)
    if target.exists() and not overwrite:
        raise UserError(f"{target}: exists already; choose another name, or replace it with --overwrite")
    if not target.parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}; create it or choose another")


def check_device(choice: DeviceChoice, *, renders: bool = True) -> Literal["cpu", "cuda"]:
    """The device to work on: with "auto" a GPU where it can be used, the CPU elsewhere.

    Why a GPU that is there is not used is told in one line on stderr.

    Args:
        renders: whether splats are rendered, which takes gsplat on a GPU.

    Raises:
        UserError: a GPU was asked for and there is none, torch is a CPU build, or gsplat cannot run on the GPU.
    """
    if choice == "cpu":
        return "cpu"
    problem = cuda_problem() or (gsplat_problem() if renders else None)
    if problem is None:
        return "cuda"
    if choice == "cuda":
        raise UserError(f"--device cuda: {problem}, or use --device cpu")
    if machine.gpus():
        print(f"rfgs: --device auto takes the CPU: {problem}", file=sys.stderr)
    return "cpu"


def check_memory(
    backend: str,
    device: Literal["cpu", "cuda"],
    *,
    views: int,
    resolution: int = 512,
    load: memory.Load = memory.Load(),  # noqa: B008, it is frozen.
    many: str = "--views-per-step",
) -> None:
    """That a big backend fits on the GPU, before anything is downloaded for it.

    Args:
        backend: a backend's name, or a single file, folder or hub id whose files are here; models that nothing is known of
            are let through, and may run out of memory later.
        views: views per step;  resolution: their width and height, pixels.
        load: what changes how much memory it takes.
        many: the flag for the number of views; "" where it is always one.

    Raises:
        UserError: even with the views encoded one by one in half precision the GPU's memory would not suffice.
    """
    gpus = machine.gpus() if device == "cuda" else []
    known = weighing.footprint(backend) if gpus else None
    if known is None:
        return
    have = gpus[0].memory
    need = memory.estimate(
        known, views=views, slice_views=True, half_encoder=True, size=resolution, load=load
    ).total
    if need <= memory.USABLE * have:
        return
    card = f"wants about {need / memory.GIB:.0f} GiB of GPU memory and {gpus[0].name} has {have / memory.GIB:.0f}"
    found = memory.plan(known, have, views=views, size=resolution, load=load)
    sizes = [
        size
        for size in (512, 256)
        if size < resolution and memory.plan(known, have, views=1, size=size, load=load)
    ]
    offloaded = None
    if not (load.offload or load.lora_rank or load.weights is not None):  # Quantized weights stay on the GPU.
        offloaded = memory.plan(known, have, views=1, size=resolution, load=replace(load, offload=True))
    others = [name for name in memory.FOOTPRINTS if memory.plan(name, have) and not name.startswith("sd15")]
    if found:
        remedy = f"use {many} {found.views}"
    elif sizes:
        remedy = f"use --resolution {sizes[0]}" + (f" {many} 1" if many else "")
    else:
        remedy = f"use --backend {others[0]}" if others else "use --backend tiny-sd3"
        if offloaded:
            count = f" {many} {min(views, offloaded.views)}" if many else ""
            remedy += f", or --offload{count}, which is much slower"
    what = (
        f"{views} view{'s' * (views > 1)} of {resolution} pixels"
        if many
        else f"an image of {resolution} pixels"
    )
    raise UserError(f"{name_for(backend)}: {what}: {card}; {remedy}")


def name_for(source: str) -> str:
    """What a message calls a model: the flag that asks for it."""
    name = None if single_file.find(source) else catalog.name_of(source)
    return f"--backend {name}" if name else f"--model {source}"
