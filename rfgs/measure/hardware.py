"""What a graphics card makes of rfgs: steps of the real architectures with random weights, the rasterizer, where time goes.

Measured in the order of what is worth most, within a budget of time: what is not reached is named. `bench/hardware.py` is the
program; on a CPU, with networks in miniature, it does the same, so that what measures is tried where there is no GPU.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from rfgs.distill import distill, first_splats, loop
from rfgs.distill.clock import Clock
from rfgs.distill.recipes import config_for
from rfgs.guidance import find_guide
from rfgs.measure import selftest
from rfgs.measure.cases import Case, cases
from rfgs.measure.random_prior import random_prior
from rfgs.models import machine, memory
from rfgs.models.card import computes_bfloat16
from rfgs.models.catalog import find_backend
from rfgs.priors.fit import embed_and_release
from rfgs.render import render
from rfgs.render.cameras import orbit
from rfgs.splats import ball

Row = dict[str, Any]
WARM_UP, TIMED = 2, 5
"""Steps of a case: those that do not count, and those that do, if the time suffices."""
SECONDS_A_CASE = 20.0
SHARES = {"self-test": 0.25, "steps": 0.85, "rasterizer": 0.95, "kernels": 1.0}
"""By when each part has to be done, as a share of all time."""


class Watch:
    """A budget of time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._began = seconds, time.perf_counter()

    def spent(self) -> float:
        return time.perf_counter() - self._began

    def left(self, part: str) -> float:
        """Seconds until `part` has to be done."""
        return SHARES[part] * self.seconds - self.spent()


def measure(device: str, *, small: bool, seconds: float, keep: Callable[[Row], None]) -> Row:
    """All that there is time for; `keep` gets what is known after each piece of it, so that a kill loses no more than one.

    Returns:
        {"machine", "self-test", "steps", "rasterizer", "kernels", "not reached", "seconds"}, values that JSON can hold.
    """
    watch = Watch(seconds)
    found: Row = {"machine": about_machine(device)}
    found |= {"self-test": [], "steps": [], "rasterizer": [], "kernels": [], "not reached": []}

    def note(part: str, label: str, work: Callable[[], Any]) -> None:
        if watch.left(part) <= 0:
            found["not reached"].append(f"{part}: {label}")
        else:
            found[part] += _tried(label, work, device)
        found["seconds"] = watch.spent()
        keep(found)

    note("self-test", "doctor --test", lambda: _self_test(device, small))
    for case in cases(small=small):
        note("steps", case.label, partial(_steps_rows, case, device, small, watch))
    bandwidth = bandwidth_of(device, small=small)
    for count in (1_000, 3_000) if small else (10_000, 100_000, 1_000_000, 30_000, 300_000):
        for size in (32,) if small else (512, 256):
            label = f"{count:,} splats, 4 x {size} px"
            note("rasterizer", label, partial(_rasterizer_rows, count, size, device, bandwidth))
    usual = cases(small=small)[0]
    note("kernels", usual.label, lambda: kernels_of(usual, device, small=small))
    return found


def _steps_rows(case: Case, device: str, small: bool, watch: Watch) -> list[Row]:
    return [steps_of(case, device, small=small, left=watch.left("steps"))]


def _rasterizer_rows(count: int, size: int, device: str, bandwidth: float) -> list[Row]:
    return [rasterizer_of(count, size, device, bandwidth)]


def about_machine(device: str) -> Row:
    """What was measured on."""
    about: Row = {
        "cpu": machine.cpu_model(),
        "versions": machine.versions(),
        "git_commit": machine.git_commit(),
    }
    about |= {"driver_cuda": machine.driver_cuda(), "torch_cuda": machine.torch_cuda()}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        about |= {"gpu": card.name, "gpu_memory": card.total_memory, "archs": torch.cuda.get_arch_list()}
    return about


def _tried(label: str, work: Callable[[], list[Row]], device: str) -> list[Row]:
    """The rows that the work gives, or one that says what went wrong; the memory is free afterwards."""
    try:
        return work()
    except Exception as error:  # One case that breaks must not cost all others.
        first = (str(error).splitlines() or [""])[0]
        return [{"label": label, "error": f"{type(error).__name__}: {first[:200]}"}]
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def _self_test(device: str, small: bool) -> list[Row]:
    outcomes = selftest.checks(
        device, lambda message: print(message, flush=True), steps=2 if small else selftest.STEPS
    )
    return [asdict(outcome) for outcome in outcomes]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def dtype_of(model: str, device: str) -> torch.dtype:
    """The precision that a run would take."""
    if device == "cpu":
        return torch.float32
    return (
        torch.bfloat16
        if find_backend(model).family.half == "bfloat16" and computes_bfloat16()
        else torch.float16
    )


def _loop(case: Case, device: str, *, small: bool) -> Iterator[Any]:
    """The loop of a run, on a prior with random weights."""
    prior = random_prior(case.model, device=device, dtype=dtype_of(case.model, device), small=small)
    settings = {"views_per_step": case.views, "resolution": case.size, "steps": 1000, "densify": "none"}
    config = config_for(prior, case.guidance, {**settings, "splats": 500 if small else 20_000})
    embed_and_release(prior, ["a cube"])
    generator = torch.Generator().manual_seed(0)
    splats = first_splats(config, generator).to(device)
    return distill("a cube", prior, splats, config, generator=generator)


def steps_of(case: Case, device: str, *, small: bool, left: float) -> Row:
    """Steps a second, the peak of memory beside its estimate, and where the time of a step goes, ms."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    steps = _loop(case, device, small=small)
    for _ in range(WARM_UP):
        next(steps)
    _wait(device)
    began, done = time.perf_counter(), 0
    while done < TIMED and (done == 0 or time.perf_counter() - began < min(SECONDS_A_CASE, left) / 2):
        next(steps)
        done += 1
        if device == "cpu" or done == 1:
            _wait(device)
    _wait(device)
    seconds = time.perf_counter() - began
    row: Row = {"label": case.label, **asdict(case), "steps_a_second": done / seconds}
    row["peak"] = torch.cuda.max_memory_allocated() if device == "cuda" else machine.peak_memory()
    if device == "cuda":
        row["peak_reserved"] = torch.cuda.max_memory_reserved()
    row["estimate"] = None if small else _estimate(case)
    with _waiting_clock(device):
        row["ms"] = {part: 1e3 * spent for part, spent in next(steps).seconds.items()}
    return row


def _estimate(case: Case) -> int:
    rank = 4 if find_guide(case.guidance).trains else 0
    return memory.estimate(
        case.model, views=case.views, size=case.size, load=memory.Load(lora_rank=rank)
    ).total


class _WaitingClock(Clock):
    device = "cpu"

    def lap(self, part: str) -> None:
        _wait(self.device)
        super().lap(part)


@contextmanager
def _waiting_clock(device: str) -> Iterator[None]:
    """Steps wait for the GPU after each of their parts, so that the parts are told apart."""
    usual = loop.Clock
    _WaitingClock.device = device
    loop.Clock = _WaitingClock  # type: ignore[misc]
    try:
        yield
    finally:
        loop.Clock = usual  # type: ignore[misc]


def bandwidth_of(device: str, *, small: bool) -> float:
    """Bytes a second that a copy within the memory moves, reading and writing."""
    source = torch.ones((1 << 20) if small else (1 << 28), device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    _wait(device)
    began = time.perf_counter()
    for _ in range(5):
        target.copy_(source)
    _wait(device)
    return 5 * 2 * source.numel() * source.element_size() / (time.perf_counter() - began)


def rasterizer_of(count: int, size: int, device: str, bandwidth: float) -> Row:
    """Forward and backward pass over 4 views, ms, and the share of the memory's bandwidth that what has to be moved at least
    takes: all parameters read once and their gradients written once for each view, the pictures and theirs."""
    views = 4
    splats = (
        ball(count, 0.9, generator=torch.Generator().manual_seed(0), opacity=0.3).to(device).requires_grad_()
    )
    cameras = orbit([0.0, 90.0, 180.0, 270.0], 15.0, 3.2, 40.0, size, size).to(device)
    times: list[tuple[float, float]] = []
    for _ in range(8):
        _wait(device)
        began = time.perf_counter()
        picture = render(splats, cameras, torch.ones(3, device=device)).rgb
        _wait(device)
        middle = time.perf_counter()
        picture.sum().backward()
        _wait(device)
        times.append((middle - began, time.perf_counter() - middle))
    forward, backward = min(time[0] for time in times), min(time[1] for time in times)
    numbers = sum(value.numel() for value in splats.parameters().values())
    least = 4 * views * (2 * numbers + 2 * 4 * size * size)
    return {
        "label": f"{count:,} splats, {views} x {size} px",
        "forward_ms": 1e3 * forward,
        "backward_ms": 1e3 * backward,
        "percent_of_bandwidth": 100 * least / (forward + backward) / bandwidth,
        "bandwidth": bandwidth,
    }


def kernels_of(case: Case, device: str, *, small: bool, most: int = 15) -> list[Row]:
    """What a step of the case spends most of its time in, operation by operation."""
    from torch.profiler import ProfilerActivity, profile

    steps = _loop(case, device, small=small)
    for _ in range(WARM_UP):
        next(steps)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as profiled:
        next(steps)
        _wait(device)
    name = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = sorted(profiled.key_averages(), key=lambda event: -getattr(event, name))
    total = sum(getattr(event, name) for event in events) or 1
    return [
        {
            "label": event.key[:80],
            "calls": event.count,
            "ms": getattr(event, name) / 1e3,
            "percent": 100 * getattr(event, name) / total,
        }
        for event in events[:most]
    ]
