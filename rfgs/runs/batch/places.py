"""Where a batch's assets are made at the same time: one place a GPU, or as many on the CPU as it has cores and memory for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from rfgs.errors import UserError
from rfgs.models import catalog, machine, memory, ram, threads, weighing
from rfgs.runs import methods
from rfgs.runs.job import Job

SMALL = memory.GIB
"""Bytes of the CPU's memory that a run with a small model may take: a draft has peaked at 0.77 GiB."""


@dataclass(frozen=True)
class Needs:
    """What one asset takes while it is made."""

    threads: int
    memory: int
    """Bytes of the CPU's."""
    gpus: int


@dataclass(frozen=True)
class Place:
    """Where one asset is made at a time."""

    environment: dict[str, str] = field(default_factory=dict)
    """What its process finds beside this one's."""


def needs(job: Job) -> Needs:
    """What an asset takes: a small model one core, since several runs side by side come further than the threads of one."""
    on_gpu = job.device == "cuda"
    if catalog.is_small(job.model):
        return Needs(1, SMALL, int(on_gpu))
    known, gpus = weighing.footprint(job.model), machine.gpus()
    room = 4 * memory.GIB
    if known:
        views = {**job.preset(), **job.settings}["views_per_step"]
        room = memory.on_the_cpu(
            known,
            views=views,
            device=job.device,
            gpu=gpus[0].memory if gpus else 0,
            load=methods.load_of(job, job.model),
            t5=job.t5 != "drop",
        )
    cores = threads.usable()
    # A CPU that computes a big model does nothing else.
    return Needs(max(1, cores // max(1, len(gpus))) if on_gpu else cores, room, int(on_gpu))


def most_demanding(jobs: Iterable[Job]) -> Needs:
    """What the most demanding of some assets takes of each."""
    # Prompt and seed change nothing, and to look at a model's files ten thousand times takes seconds.
    kinds = {
        (job.model, job.t5, job.dtype, job.quantize, job.offload, job.settings.get("views_per_step")): job
        for job in jobs
    }
    found = [needs(job) for job in kinds.values()]
    return Needs(
        max(one.threads for one in found), max(one.memory for one in found), max(one.gpus for one in found)
    )


def places(most: Needs, workers: int | None = None) -> list[Place]:
    """The places of this machine.

    Args:
        most: what the most demanding asset takes.
        workers: how many places; None takes all GPUs, or what cores and memory allow.

    Raises:
        UserError: `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: has to be at least 1; leave it out for what this machine has")
    cores, free = threads.usable(), ram.available()
    if most.gpus:
        names = _gpu_names(max(1, len(machine.gpus())))
        count = workers or len(names)
        share = str(max(1, cores // count))
        return [
            Place({"CUDA_VISIBLE_DEVICES": names[i % len(names)], "OMP_NUM_THREADS": share})
            for i in range(count)
        ]
    fitting = cores // most.threads if free is None else min(cores // most.threads, free // most.memory)
    count = workers or max(1, fitting)
    return [Place({"OMP_NUM_THREADS": str(max(1, cores // count))})] * count


def _gpu_names(count: int) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls each of this process's GPUs, which may have been given some of all."""
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return given[:count] or [str(number) for number in range(count)]
