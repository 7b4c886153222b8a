"""What all tests share: markers that skip, with the reason, what this machine cannot run."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # One core for each process (`-n`): threads of two that wait for each other's cores take longer than none. Before torch
    # is imported, and for the programs that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = [
    f"test_{name}.py"
    for name in (
        "in_a_browser fake_cuda lint end_to_end together engine left forks several batch loading exhibits footprint documents "
        "settings exact_prior train_unet tiny_sd3 placing fuzz"
    ).split()
]
"""Files that take many seconds, the longest first. They come before all others, so that no worker is left alone with one of them
at the end."""


def pytest_configure(config: pytest.Config) -> None:
    # xdist would begin with the files of the most tests.
    config.option.loadscopereorder = False


@pytest.fixture(scope="session", autouse=True)
def torch_evaluates() -> Iterator[None]:
    """Models with random weights are made by the dozen, and converting each would take longer than its test."""
    from rfgs.priors import engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "AUTO", False)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collecting imports all libraries. None of their million objects is garbage, and none is looked at again after it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    marked = {name: [item for item in items if item.get_closest_marker(name)] for name in ("gpu", "weights")}
    if marked["gpu"]:
        from rfgs.models.cuda import cuda_problem, gsplat_problem

        problem = cuda_problem() or gsplat_problem()
        for item in marked["gpu"] if problem else []:
            item.add_marker(pytest.mark.skip(reason=problem))
    if "RFGS_WEIGHTS" not in os.environ:
        for item in marked["weights"]:
            item.add_marker(pytest.mark.skip(reason="RFGS_WEIGHTS names no folder or hub id of a big model"))
