"""What the loop does over a run: learning rates, Adam, noise, and where it looks from; against torch's own schedulers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rfgs.distill import DistillConfig, Step, distill
from tests.distill.test_loop import OneColor, start

RATES = {"lr_means": 0.01, "lr_quats": 0.02, "lr_scales": 0.03, "lr_opacities": 0.04, "lr_colors": 0.05}
"""In the order of `Splats.parameters()`: centers, rotations, scales, opacities, colors."""
CONFIG = DistillConfig(steps=9, resolution=32, views_per_step=2, guidance="rfds", guidance_scale=1.0, **RATES)


def run(config: DistillConfig, prior: OneColor | None = None) -> list[Step]:
    generator = torch.Generator().manual_seed(1)
    return list(distill("white", prior or OneColor(), start(), replace(config), generator=generator))


def adam_of(step: Step) -> list[dict]:
    return step.state()["optimizer"]["param_groups"]


@pytest.mark.parametrize("final", [0.1, 0.25, 1.0])
def test_learning_rates_fall_along_a_cosine_to_their_share(final: float) -> None:
    generator = torch.Generator().manual_seed(1)
    config = replace(CONFIG, final_lr=final)
    seen = [
        [group["lr"] for group in adam_of(step)]
        for step in distill("white", OneColor(), start(), config, generator=generator)
    ]
    expected = []
    for rate in RATES.values():
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=final * rate)
        column = []
        for _ in range(9):
            column.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            cosine.step()
        expected.append(column)
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected).T)


def test_adam_remembers_for_as_long_as_it_says() -> None:
    """beta2 of 0.99, not torch's 0.999: a run of a hundred steps would never leave the start's gradients behind."""
    for group in adam_of(run(replace(CONFIG, steps=1))[-1]):
        assert (group["betas"], group["eps"]) == ((0.9, 0.99), 1e-15)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_the_first_step_is_the_learning_rate_however_small_the_loss(scale: float) -> None:
    class Faint(OneColor):
        def encode(self, images: Tensor) -> Tensor:
            return super().encode(images) * scale

    (step,) = run(replace(CONFIG, steps=1), Faint())
    for name, rate in zip(
        ("means", "log_scales", "logit_opacities", "sh0"), (0.01, 0.03, 0.04, 0.05), strict=True
    ):
        change = (step.splats.parameters()[name].detach() - start().parameters()[name]).abs()
        assert change.max().item() == pytest.approx(rate, rel=1e-3), name
        assert change.median().item() == pytest.approx(rate, rel=1e-3), name


@pytest.mark.parametrize("curve", [1.0, 2.0, 0.5])
def test_noise_moves_along_its_curve(curve: float) -> None:
    """Ranges of no width, so that the times that are drawn are the range itself."""
    steps = run(replace(CONFIG, noise_range=(0.9, 0.9), final_noise_range=(0.1, 0.1), noise_curve=curve))
    expected = 0.9 - 0.8 * torch.linspace(0, 1, 9) ** curve
    torch.testing.assert_close(torch.stack([step.t for step in steps]).mean(1), expected)


def test_noise_moves_in_a_straight_line_unless_told() -> None:
    assert DistillConfig().noise_curve == 1


def test_views_are_from_the_elevations_that_are_set_and_now_and_then_from_above() -> None:
    def elevations(config: DistillConfig) -> list[Tensor]:
        positions = [step.cameras.positions for step in run(config)]
        return [torch.asin(one[:, 2] / one.norm(dim=-1)).rad2deg() for one in positions]

    config = replace(CONFIG, steps=12, elevation_range=(-20.0, 10.0), overhead_every=3)
    for index, seen in enumerate(elevations(config), start=1):
        low, high = (45, 80) if index % 3 == 0 else (-20, 10)
        assert ((low - 1e-3 <= seen) & (seen <= high + 1e-3)).all(), index
    above = torch.cat(elevations(config)[2::3])
    assert above.min() < 60 and above.max() > 65
    assert torch.cat(elevations(replace(config, overhead_every=0))).max() < 11


def test_a_run_of_one_step_is_all_start() -> None:
    (step,) = run(replace(CONFIG, steps=1, noise_range=(0.9, 0.9), final_noise_range=(0.1, 0.1)))
    assert step.t.tolist() == pytest.approx([0.9, 0.9])
    assert [group["lr"] for group in adam_of(step)] == pytest.approx(list(RATES.values()))
