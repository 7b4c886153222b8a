"""`rfgs doctor --test`: whether what a run needs works on this machine, by doing a little of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from rfgs.distill import distill, first_splats
from rfgs.distill.recipes import config_for
from rfgs.errors import UserError
from rfgs.priors import load_prior
from rfgs.priors.engine import used
from rfgs.render import prepare, render
from rfgs.render.cameras import orbit
from rfgs.render.plain import plain
from rfgs.splats import Splats, ball

STEPS = 30
SECONDS = 60.0
"""Steps are left out beyond that; those before it are judged."""
IMAGE, GRADIENT = 1e-3, 1e-2
"""Root mean square of the difference of two rasterizers' pictures, and their gradients' difference as a share of the
gradient: a pixel at which one of them still counts a Gaussian and the other no more is off by 0.004."""
LEFT = 64 << 20
"""Bytes that may stay on the GPU when all is done: the libraries' own."""


@dataclass(frozen=True)
class Outcome:
    """What one check found."""

    name: str
    works: bool
    detail: str


def checks(device: str, say: Callable[[str], None], *, steps: int = STEPS) -> Iterator[Outcome]:
    """Does the checks one by one, on "cpu" or "cuda", and leaves nothing behind; `say` is told what takes long.

    A check that breaks is an outcome too; those that need what it should have brought are left out.
    """
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    for name, check in {
        "kernels": lambda: _kernels(device, say),
        "rasterizer": lambda: _rasterizer(device),
        f"{steps} steps of tiny-sd3": lambda: _steps(device, steps),
        "memory": lambda: _memory(device, before),
    }.items():
        try:
            works, detail = check()
        except Exception as error:  # Whatever it is, it is what this is to find.
            first = (str(error).splitlines() or [""])[0]
            works, detail = (
                False,
                first if isinstance(error, UserError) else f"{type(error).__name__}: {first}",
            )
        yield Outcome(name, works, detail)
        if name == "kernels" and not works:
            return


def _kernels(device: str, say: Callable[[str], None]) -> tuple[bool, str]:
    began = time.perf_counter()
    prepare(device, say)
    splats = ball(1, 0.5, generator=torch.Generator().manual_seed(0)).to(device)
    render(splats, orbit(0.0, 0.0, 3.0, 40.0, 16, 16).to(device))
    return True, f"{'gsplat' if device == 'cuda' else 'numba'}, ready in {time.perf_counter() - began:.1f} s"


def _rasterizer(device: str) -> tuple[bool, str]:
    """gsplat against our rasterizer, or that against plain torch: the pictures, and the gradients of all parameters."""
    generator = torch.Generator().manual_seed(1)
    splats = ball(200, 0.8, generator=generator, opacity=0.5)
    # Of round ones no rotation shows, and its gradient would be rounding alone.
    splats.log_scales = splats.log_scales + 0.5 * torch.randn(200, 3, generator=generator)
    cameras, background = orbit([0.0, 120.0], 20.0, 3.2, 40.0, 48, 48), torch.tensor([0.1, 0.2, 0.3])
    tested, gradients = _rendered(
        splats.to(device),
        lambda here: render(here, cameras.to(device), background.to(device)).rgb,
    )
    if device == "cuda":
        expected, slopes = _rendered(splats, lambda here: render(here, cameras, background).rgb)
    else:
        expected, slopes = _rendered(splats, lambda here: plain(here, cameras, background))
    image = (tested - expected).square().mean().sqrt().item()
    worst = {
        name: ((gradients[name] - slope).norm() / slope.norm().clamp_min(1e-12)).item()
        for name, slope in slopes.items()
    }
    name = max(worst, key=lambda one: worst[one])
    against = "our CPU rasterizer" if device == "cuda" else "plain torch"
    detail = (
        f"differs from {against} by {image:.1e} in the picture, {worst[name]:.1e} in the gradient of {name}"
    )
    # Written so that NaN fails.
    return image < IMAGE and all(value < GRADIENT for value in worst.values()), detail


def _rendered(
    splats: Splats, draw: Callable[[Splats], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    splats = splats.detach().clone().requires_grad_()
    picture = draw(splats)
    weights = torch.randn(picture.shape, generator=torch.Generator().manual_seed(2)).to(picture)
    (picture * weights).sum().backward()
    gradients = {name: value.grad for name, value in splats.parameters().items() if value.grad is not None}
    return picture.detach().cpu(), {name: value.cpu() for name, value in gradients.items()}


def _steps(device: str, steps: int) -> tuple[bool, str]:
    prior = load_prior("tiny-sd3", device=device)
    config = config_for(prior, "rfds", {"steps": steps, "splats": 1000})
    generator = torch.Generator().manual_seed(0)
    start = first_splats(config, generator).to(device)
    began, done, first = time.perf_counter(), 0, 0.0
    for step in distill("a red cube", prior, start, config, generator=generator):
        done = step.index
        if done == 1:
            step.loss.item()
            first = time.perf_counter() - began
        if time.perf_counter() - began > SECONDS:
            break
    loss, skipped = float(step.loss), int(step.skipped)
    seconds = time.perf_counter() - began
    whole = all(bool(value.isfinite().all()) for value in step.splats.parameters().values())
    moved = len(step.splats) != len(start) or not torch.equal(step.splats.means, start.means)
    detail = f"{done} steps"
    if done > 1:
        detail += f", {(done - 1) / max(seconds - first, 1e-9):.1f} a second"
    detail += f" with {used(prior)}" * (device == "cpu")
    if skipped or not whole or loss != loss:
        return False, f"{detail}, but the loss is {loss:.3g} and {skipped} gradients are not finite"
    return moved, detail + ("" if moved else ", but nothing moved")


def _memory(device: str, before: int) -> tuple[bool, str]:
    gc.collect()
    if device == "cpu":
        return True, "nothing to free on a GPU"
    torch.cuda.empty_cache()
    peak, left = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated() - before
    return left < LEFT, f"at most {peak / 2**20:.0f} MiB were in use, {left / 2**20:.0f} are left"
