"""The loop's whole step on a CUDA device that computes nothing: devices, dtypes and shapes fit, and nothing waits for it.

`vsd` and `rfds-vsd` are left out, whose students peft and `Module.to` cannot put on such a device; tests/guidance/test_lora.py
counts what a lesson asks of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from rfgs.distill import DistillConfig, Step, distill, first_splats
from rfgs.measure.random_prior import random_prior
from tests.fake_cuda import FakeCuda, fake_cuda, guard

__all__ = ["fake_cuda", "guard"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rfds-rev": ("sd3", {"guidance": "rfds-rev"}),
    "rfds-rev by adam": (
        "sd3",
        {"guidance": "rfds-rev", "own": {"inner_optimizer": "adam", "renormalize_noise": True}},
    ),
    "flux": ("flux-dev", {"guidance": "rfds-rev"}),
    "instaflow": ("instaflow", {"guidance": "rfds-rev", "own": {"time_weight": "1-t"}}),
    "sds": ("sd15", {"guidance": "sds"}),
    "perp-neg": ("sd3", {"guidance": "rfds", "perp_neg": True}),
    "mixed words, growing views": (
        "sd3",
        {"guidance": "rfds", "smooth_views": True, "first_resolution": 0.5},
    ),
    "pulls": (
        "sd3",
        {
            "guidance": "rfds",
            "opacity_weight": 0.1,
            "scale_weight": 0.1,
            "anisotropy_weight": 0.1,
            "opaque_weight": 0.1,
        },
    ),
}
GROWTH = ("quantile", "threshold", "mcmc")


def steps(device: FakeCuda, name: str, settings: dict[str, Any]) -> Iterator[Step]:
    dtype = torch.bfloat16 if name in ("sd3", "flux-dev") else torch.float16
    prior = random_prior(name, device="cuda", dtype=dtype, small=True)
    config = DistillConfig(
        **{"steps": 2, "views_per_step": 2, "resolution": 32, "densify": "none", "splats": 20} | settings
    )
    generator = torch.Generator().manual_seed(0)
    splats = first_splats(config, generator).to("cuda")
    yield from distill("a cube", prior, splats, config, generator=generator)


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_every_guidance_waits_for_nothing(case: str, fake_cuda: FakeCuda) -> None:
    name, settings = CASES[case]
    for step in steps(fake_cuda, name, settings):
        assert step.loss.device.type == step.x0_hat.device.type == step.frames.rgb.device.type == "cuda"
        assert step.loss.dtype == step.x0_hat.dtype == torch.float32
        if step.index > 1:
            # The first step embeds its prompts, and makes a student.
            assert fake_cuda.of_ours() == []
        fake_cuda.waits.clear()
    assert step.index == 2


@pytest.mark.parametrize("densify", GROWTH)
def test_growth_waits_in_its_rounds_alone(densify: str, fake_cuda: FakeCuda) -> None:
    settings = {
        "guidance": "rfds",
        "densify": densify,
        "densify_every": 3,
        "densify_range": (0.0, 1.0),
        "steps": 5,
        "max_splats": 60,
    }
    counts = []
    for step in steps(fake_cuda, "sd3", settings):
        counts.append(len(step.splats))
        if step.index in (2, 4, 5):
            assert fake_cuda.of_ours() == []
        fake_cuda.waits.clear()
    assert all(value.device.type == "cuda" for value in step.splats.parameters().values())
    assert counts[-1] != counts[0]
