"""Checks of how a model is to be loaded, before anything is downloaded for it: each failure is one line with the remedy.

No torch here, as in `rfgs.cli.checks`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from rfgs.errors import UserError
from rfgs.flat.jobs import EditJob, InvertJob
from rfgs.models import available, catalog, libraries, machine, memory, ram, single_file, weighing
from rfgs.models.catalog import Backend
from rfgs.models.families import FLUX, SD3, Family
from rfgs.models.kind import family_of
from rfgs.models.loading import Loading
from rfgs.models.lora_file import check_lora
from rfgs.runs import methods
from rfgs.runs.job import Job

from . import checks

L = TypeVar("L", bound=Loading)


def check_loading(
    loading: Loading,
    device: Literal["cpu", "cuda"],
    guidance: str | None = None,
    *,
    source: str,
    small: bool = False,
) -> None:
    """Ways to load a model that the model and this machine have, and that go together. No network.

    Args:
        source: the model, as `rfgs.models.catalog.source_of` names it.
        small: whether it is one of our own.

    Raises:
        UserError: one that cannot be.
    """
    family = family_of(source)
    if loading.t5 == "drop" and family and not family.can_drop_t5:
        raise UserError(f"--t5 drop: {source} reads prompts with T5 alone; use --t5 keep or --t5 8bit")
    if loading.t5 == "8bit" and device == "cpu":
        raise UserError(
            "--t5 8bit: bitsandbytes computes on an NVIDIA GPU, and this run is on the CPU; use --t5 keep or --t5 drop"
        )
    if loading.t5 == "8bit" and machine.version("bitsandbytes") is None:
        raise UserError(
            "--t5 8bit: bitsandbytes is not installed; install it with `pip install 'rfgs[t5-8bit]'`, or use "
            "--t5 keep or --t5 drop"
        )
    file, place = single_file.find(source), catalog.locate(source).folder()
    if loading.quantize == "nf4":
        _check_nf4(device, family, small=small, already=file is not None and file.quantized)
    if loading.lora is not None:
        if file and file.quantized or loading.quantize != "none":
            raise UserError(
                f"--lora {loading.lora}: cannot be added to quantized weights; take some that are not"
            )
        check_lora(loading.lora, loading.lora_scale, family, source)
    elif loading.lora_scale != 1:
        raise UserError(f"--lora-scale {loading.lora_scale:g}: says nothing without --lora; leave it out")
    if place:
        libraries.check_libraries(source, place, device, t5=loading.t5 != "drop")
    if loading.dtype == "float16" and device == "cpu":
        raise UserError(
            "--dtype float16: this run is on the CPU, which computes in float32 or bfloat16; use --dtype bfloat16"
        )
    if loading.offload:
        _check_offload(loading, device, guidance, small=small)
        if (
            loading.quantize == "nf4"
            or (file and file.quantized)
            or (place and any(libraries.quantized_parts(place)))
        ):
            raise UserError(
                "--offload: quantized weights stay on the GPU, for which they are small enough; leave it out"
            )
    if loading.compile and family and not family.network:
        raise UserError(f"--compile: {source} has no network to compile; leave it out")
    problem = compile_problem(device) if loading.compile else None
    if problem:
        raise UserError(f"--compile: {problem}, or leave it out")


def _check_nf4(device: Literal["cpu", "cuda"], family: Family | None, *, small: bool, already: bool) -> None:
    if family and family not in (SD3, FLUX):
        raise UserError("--quantize nf4: is for the transformers of SD3, SD3.5 and FLUX; leave it out")
    if already:
        raise UserError("--quantize nf4: the file is quantized already; leave it out")
    if small:
        raise UserError("--quantize nf4: this model is small enough for any machine; leave it out")
    libraries.check_nf4(device)


def find_files(job: L, backend: Backend, model: str | None) -> L:
    """The job with everything that it loads found, and named so that it is found from anywhere. May ask the hub.

    Raises:
        UserError: something is missing or incomplete.
    """
    parts = _absolute(job.parts)
    source = available.find_model(backend, model, t5=job.t5 != "drop", parts=parts)
    return replace(job, model=source, parts=parts, lora=_absolute(job.lora))  # type: ignore[call-arg]  # All jobs have a model.


def _absolute(path: str | None) -> str | None:
    """A path, absolute if something is there: a hub id stays what it is."""
    place = Path(path or "").expanduser()
    return str(place.absolute()) if path and place.exists() else path


def check_room(
    job: Loading,
    device: Literal["cpu", "cuda"],
    source: str,
    *,
    views: int,
    resolution: int,
    load: memory.Load,
    distills: bool = True,
    many: str = "--views-per-step",
) -> None:
    """That a big model fits into the GPU's memory and into the CPU's, before anything is downloaded or loaded.

    Args:
        source: the model, as `rfgs.models.catalog.source_of` names it.
        load: what changes how much memory it takes.
        distills: whether a CPU that computes in bfloat16 does so unless told otherwise.
        many: see `rfgs.cli.checks.check_memory`.

    Raises:
        UserError: it does not fit.
    """
    checks.check_memory(source, device, views=views, resolution=resolution, load=load, many=many)
    known, free = weighing.footprint(source), ram.available()
    if known is None or free is None:
        return
    if device == "cpu" and job.dtype == "auto":
        from rfgs.priors.fit import distillation_dtype

        load = replace(load, full=not (distills and distillation_dtype("cpu")))
    gpus, family = machine.gpus() if device == "cuda" else [], family_of(source)

    def need(*, full: bool, t5: bool) -> int:
        return memory.on_the_cpu(
            known,
            views=views,
            size=resolution,
            device=device,
            gpu=gpus[0].memory if gpus else 0,
            load=replace(load, full=full),
            t5=t5 and job.t5 != "drop",
        )

    wanted = need(full=load.full, t5=True)
    if wanted <= free:
        return
    drops = bool(family and family.can_drop_t5 and job.t5 != "drop" and known.t5)
    ways = [("--dtype bfloat16", False, True)] * load.full
    ways += [("--t5 drop", load.full, False)] * drops
    ways += [("--dtype bfloat16 --t5 drop", False, False)] * (load.full and drops)
    fitting = [flags for flags, full, t5 in ways if need(full=full, t5=t5) <= free]
    remedy = f"use {fitting[0]}" if fitting else "end what else uses it, or use --backend tiny-sd3"
    raise UserError(
        f"{checks.name_for(source)}: wants about {wanted / memory.GIB:.0f} GiB of this machine's memory, and "
        f"{free / memory.GIB:.0f} are free; {remedy}"
    )


def check_job_room(job: Job, source: str, *, processes: int = 1, watched: bool = False) -> None:
    """That a big model fits into memory for a run, new or resumed, before anything is downloaded or loaded.

    Args:
        source: the model, as `rfgs.models.catalog.source_of` names it.
        processes: that share the views of a step.
        watched: whether a page decodes what the model sees.

    Raises:
        UserError: it does not fit.
    """
    if catalog.is_small(source) or not weighing.footprint(source):
        return  # So that torch is not asked which guidance trains a LoRA.
    every = {**job.preset(), **job.settings}
    rank = methods.lora_rank(job.guidance, job.settings)
    load = methods.load_of(job, source, rank, perp_neg=every.get("perp_neg", False), decode=watched)
    check_room(
        job,
        job.device,
        source,
        views=-(-every["views_per_step"] // processes),
        resolution=every.get("resolution", 512),
        load=load,
    )


def check_photo_job(job: InvertJob | EditJob, source: str, device: Literal["cpu", "cuda"]) -> None:
    """All of this for a job that looks for a photograph's noise: one image, whose latents are moved."""
    small = catalog.is_small(source)
    check_loading(job, device, source=source, small=small)
    if not small:
        load = methods.load_of(job, source, encode=False, decode=True)
        side = job.resolution or 512
        check_room(job, device, source, views=1, resolution=side, load=load, distills=False, many="")


def _check_offload(
    loading: Loading, device: Literal["cpu", "cuda"], guidance: str | None, *, small: bool
) -> None:
    if device == "cpu":
        raise UserError("--offload: this run is on the CPU, where all weights are anyway; leave it out")
    if small:
        raise UserError("--offload: this model is small enough for any GPU; leave it out")
    if guidance is not None and methods.trains(guidance):
        raise UserError(
            f"--offload: --guidance {guidance} trains a LoRA, whose network has to be on the GPU; leave one of them out"
        )
    if loading.compile:
        raise UserError(
            "--compile: weights that come and go with --offload cannot be compiled; leave one of them out"
        )


def compile_problem(device: Literal["cpu", "cuda"]) -> str | None:
    """Why `torch.compile` cannot make code for `device` here, with a remedy; None where it can."""
    if device == "cuda" and machine.version("triton") is None and machine.version("triton-windows") is None:
        return "torch compiles for a GPU with Triton, which is not installed; install it with `pip install triton`"
    # Triton wants one as well, for what starts its kernels.
    names = [os.environ.get("CXX"), "c++", "g++", "clang++", "cl", os.environ.get("CC"), "cc", "gcc", "clang"]
    if not any(shutil.which(name) for name in names[: 5 if device == "cpu" else None] if name):
        return "torch compiles with a C++ compiler, and none is found; install one, such as g++, or name it in CXX"
    return None
