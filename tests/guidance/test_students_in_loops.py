"""VSD and RFDS-VSD in the loops themselves, on diffusers' networks: checkpoints, counts, and 2D without cameras."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rfgs.distill import DistillConfig, Step, distill
from rfgs.flat.particles import ParticleConfig, optimize
from rfgs.splats import ball
from tests.guidance.networks import NetworkPrior

FAMILIES = pytest.mark.parametrize(("family", "guidance"), [("sd3", "rfds-vsd"), ("unet", "vsd")])


def run(family: str, config: DistillConfig, seed: int = 1, resume: dict | None = None) -> list[Step]:
    generator = torch.Generator().manual_seed(seed)
    start = ball(20, 0.5, generator=torch.Generator().manual_seed(9))
    return list(distill("a cat", NetworkPrior(family), start, config, generator=generator, resume=resume))


@FAMILIES
def test_a_checkpoint_file_holds_the_student_and_its_optimizer(
    family: str, guidance: str, tmp_path: Path
) -> None:
    config = DistillConfig(
        guidance=guidance, steps=4, resolution=32, views_per_step=2, guidance_scale=3.0, own={"lr_lora": 1e-2}
    )
    generator = torch.Generator().manual_seed(1)
    start = ball(20, 0.5, generator=torch.Generator().manual_seed(9))
    for step in distill("a cat", NetworkPrior(family), start, config, generator=generator):
        # Text and null, the student, and its training, for each of two views.
        assert step.evaluations == {"forward": 8, "backward": 2}
        if step.index == 2:
            torch.save(step.state(), tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    learned = state["guidance"]["state"]
    assert state["guidance"]["name"] == guidance and learned["optimizer"]["state"]
    assert any(value.abs().max() > 0 for name, value in learned["lora"].items() if "lora_B" in name)
    *_, resumed = run(family, config, seed=5, resume=state)
    for ours, theirs in zip(
        step.splats.parameters().values(), resumed.splats.parameters().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    whole, again = step.state()["guidance"]["state"], resumed.state()["guidance"]["state"]
    assert all(torch.equal(whole["lora"][name], again["lora"][name]) for name in whole["lora"])
    assert all(torch.equal(whole["camera"][name], again["camera"][name]) for name in whole["camera"])


@FAMILIES
def test_images_without_cameras(family: str, guidance: str) -> None:
    config = ParticleConfig(guidance=guidance, steps=3, particles=2, resolution=32, guidance_scale=3.0)
    steps = [
        (step.evaluations, step.residual.item(), set(step.seconds))
        for step in optimize(
            "a cat", NetworkPrior(family), config, generator=torch.Generator().manual_seed(0)
        )
    ]
    assert len(steps) == 3
    for evaluations, residual, parts in steps:
        assert evaluations == {"forward": 8, "backward": 2} and residual > 0
        assert parts == {"encode", "prior", "backward", "optimizer"}
