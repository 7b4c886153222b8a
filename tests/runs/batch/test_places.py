"""How many assets are made at a time, and what each may compute on."""

from __future__ import annotations

import pytest

from rfgs.errors import UserError
from rfgs.models.machine import Gpu
from rfgs.models.memory import GIB
from rfgs.runs.batch import places as module
from rfgs.runs.batch.places import Needs, needs, places
from rfgs.runs.job import Job


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """8 cores, 6 GiB free, 2 GPUs."""
    monkeypatch.setattr(module.threads, "usable", lambda: 8)
    monkeypatch.setattr(module.ram, "available", lambda: 6 * GIB)
    monkeypatch.setattr(module.machine, "gpus", lambda: [Gpu("H100", 80 * GIB)] * 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_cores_and_memory_bound_a_cpu(machine: pytest.MonkeyPatch) -> None:
    small = needs(Job("a red mug"))
    assert small == Needs(1, GIB, 0)
    assert [place.environment for place in places(small)] == [{"OMP_NUM_THREADS": "1"}] * 6
    assert [place.environment for place in places(small, 2)] == [{"OMP_NUM_THREADS": "4"}] * 2
    machine.setattr(module.ram, "available", lambda: None)
    assert len(places(small)) == 8
    machine.setattr(module.ram, "available", lambda: 1)
    assert len(places(small)) == 1
    big = needs(Job("a red mug", model="sd3"))
    assert big.threads == 8 and big.memory > 10 * GIB and len(places(big)) == 1


def test_each_gpu_is_a_place(machine: pytest.MonkeyPatch) -> None:
    big = needs(Job("a red mug", model="sd3", device="cuda"))
    assert (big.gpus, big.threads) == (1, 4)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(big)] == ["0", "1"]
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(big, 4)] == ["0", "1", "0", "1"]
    machine.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, 5")
    assert [place.environment for place in places(big)] == [
        {"CUDA_VISIBLE_DEVICES": "GPU-a", "OMP_NUM_THREADS": "4"},
        {"CUDA_VISIBLE_DEVICES": "5", "OMP_NUM_THREADS": "4"},
    ]


def test_no_worker_is_none(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--workers 0: has to be at least 1"):
        places(Needs(1, GIB, 0), 0)
