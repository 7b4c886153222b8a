"""The training loop on a problem of two weights: its learning rate, its checkpoints, its average, bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training import fitting
from training.fitting import Muon32, drawn_from, fit, nearest_orthogonal


class Line(nn.Module):
    """One weight in a transformer block, which Muon takes, and one outside."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = nn.Linear(3, 3, bias=False)
        self.rest = nn.Linear(3, 3)
        self.prepared: list[bool] = []

    def prepare(self, compile: bool) -> None:
        self.prepared.append(compile)

    def loss(self, x: Tensor, noise: torch.Generator) -> Tensor:
        return (self.rest(self.transformer_blocks(x)) - x).square().mean()


def draw(generator: torch.Generator) -> Tensor:
    return torch.randn(4, 3, generator=generator)


def run(folder: Path, name: str, model: Line | None = None, **options) -> tuple[Line, object]:
    torch.manual_seed(0)
    model = model or Line()
    options = {"seconds": 12, "seed": 3, "save_every": 3, "rate": 0.1, **options}
    return model, fit(model, Line(), draw, model.loss, folder / f"{name}.pt", **options)


class RecordingSGD(torch.optim.SGD):
    """Plain descent that notes the learning rate of each step."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        super().__init__(model.parameters(), lr=rate)
        self.rates: list[float] = []

    def step(self, closure: None = None) -> None:
        self.rates.append(self.param_groups[0]["lr"])
        super().step(closure)


def test_the_learning_rate_warms_up_stays_and_falls_to_zero_with_time(
    tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[RecordingSGD] = []
    monkeypatch.setattr(
        fitting, "make_optimizers", lambda model, rate: made.append(RecordingSGD(model, rate)) or made[-1:]
    )
    list(run(tmp_path, "line", seconds=400, rate=0.2, save_every=10**6)[1])
    rates = made[0].rates  # One second passes at each step.
    assert len(rates) == 400
    assert rates[:100] == pytest.approx([0.2 * step / 100 for step in range(100)])
    assert rates[100:200] == pytest.approx([0.2] * 100)
    assert rates[200:] == pytest.approx([0.2 * (399 - step) / 200 for step in range(200, 400)], abs=1e-6)


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path, clock: None) -> None:
    model, events = run(tmp_path, "whole")
    whole = list(events)
    assert model.prepared == [False] and whole[0]["step"] == 3 and len(whole) > 2
    _, interrupted = run(tmp_path, "parts")
    assert next(interrupted) == whole[0]
    interrupted.close()
    _, events = run(tmp_path, "parts")
    rest = list(events)
    assert [metrics["step"] for metrics in rest] == [metrics["step"] for metrics in whole[1:]]
    assert [metrics["loss"] for metrics in rest] == [metrics["loss"] for metrics in whole[1:]]
    ends = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "parts")]
    for part in ("model", "average"):
        torch.testing.assert_close(ends[0][part], ends[1][part], rtol=0, atol=0)
    for one, other in zip(ends[0]["optimizers"], ends[1]["optimizers"], strict=True):
        torch.testing.assert_close(one["state"], other["state"], rtol=0, atol=0)
    assert not (tmp_path / "parts.tmp").exists()
    # The weights have moved, and their average lags behind them.
    torch.manual_seed(0)
    fresh = Line().state_dict()
    for key in ("transformer_blocks.weight", "rest.weight"):
        moved = [(ends[0][kind][key] - fresh[key]).norm() for kind in ("model", "average")]
        assert moved[0] > moved[1] > 0


def test_training_begins_with_the_weights_that_it_is_given(tmp_path: Path, clock: None) -> None:
    known = Line()
    with torch.no_grad():
        for layer in (known.transformer_blocks, known.rest):
            layer.weight.copy_(torch.eye(3))
        known.rest.bias.fill_(0.1)
    model, events = run(tmp_path, "line", known, seconds=2, save_every=1)
    assert next(events)["loss"] == pytest.approx(0.01, abs=1e-5)


def test_a_loss_that_can_be_learned_falls(tmp_path: Path, clock: None) -> None:
    _, events = run(tmp_path, "line", seconds=300, save_every=100, rate=0.01)
    losses = [metrics["loss"] for metrics in events]
    assert losses[-1] < 0.3 * losses[0]


def test_a_weight_that_preparing_takes_the_gradient_of_stops_the_training(
    tmp_path: Path, clock: None
) -> None:
    model, _ = run(tmp_path, "line")

    def loss(x: Tensor, noise: torch.Generator) -> Tensor:
        # Once prepared, what a miscompiled graph gives.
        return model.loss(x, noise) if not model.prepared else model.rest(torch.ones(3)).sum()

    events = fit(model, Line(), draw, loss, tmp_path / "half.pt", seconds=3, seed=0)
    with pytest.raises(RuntimeError, match="gradient of 1 weights, such as transformer_blocks.weight"):
        next(events)


def test_a_weight_that_the_loss_never_depends_on_does_not(tmp_path: Path, clock: None) -> None:
    model, _ = run(tmp_path, "line")
    events = fit(
        model, Line(), draw, lambda x, noise: model.rest(x).sum(), tmp_path / "half.pt", seconds=3, seed=0
    )
    assert next(events)["step"] == 3


# Drawing ahead


def test_processes_that_draw_ahead_draw_the_same() -> None:
    """From any step on, so that an interrupted run goes on alike."""
    alone, ahead = drawn_from(draw, 5, 7, 0), drawn_from(draw, 5, 7, 1)
    for _ in range(10):
        assert torch.equal(next(alone), next(ahead))
    assert torch.equal(next(drawn_from(draw, 5, 17, 0)), next(alone))
    assert not torch.equal(next(drawn_from(draw, 6, 18, 0)), next(alone))


def test_what_has_grown_is_drawn_from_at_the_next_checkpoint(tmp_path: Path, clock: None) -> None:
    size = [1]
    sizes: list[int] = []

    def loss(x: Tensor, noise: torch.Generator) -> Tensor:
        sizes.append(len(x))
        return model.loss(x, noise)

    def refresh() -> bool:
        size[0] += 1
        return True

    model = Line()
    events = fit(
        model,
        Line(),
        lambda generator: torch.randn(size[0], 3, generator=generator),
        loss,
        tmp_path / "line.pt",
        seconds=9,
        seed=0,
        save_every=3,
        refresh=refresh,
    )
    list(events)
    # The first of all looks for idle weights.
    assert sizes[:8] == [1, *[1] * 3, *[2] * 3, 3]


def test_noise_is_that_of_the_step_and_begins_anew_in_each(tmp_path: Path, clock: None) -> None:
    model, drawn = Line(), []

    def loss(x: Tensor, noise: torch.Generator) -> Tensor:
        drawn.append(float(torch.rand(1, generator=noise)))
        return model.loss(x, noise)

    list(fit(model, Line(), draw, loss, tmp_path / "line.pt", seconds=5, seed=3))
    again = [
        float(torch.rand(1, generator=torch.Generator().manual_seed(3 * 1_000_003 + i))) for i in range(5)
    ]
    assert drawn[1:] == again


# Muon


def test_muon_in_float32_is_torchs_own() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(24, 24), torch.randn(24, 60), torch.randn(60, 24)]
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    options = {"lr": 0.03, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = Muon32(ours, **options), torch.optim.Muon(theirs, **options)
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, weight in zip(ours, theirs, weights, strict=True):
        # torch's own works in bfloat16, with eight bits.
        assert (one - other).norm() < 0.03 * (other - weight).norm()
    # Either goes on from the other's state.
    optimizers[0].load_state_dict(optimizers[1].state_dict())


@pytest.mark.parametrize("shape", [(12, 12), (8, 30), (30, 8)])
def test_the_nearest_orthogonal_matrix_is_that_of_the_singular_vectors(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    # Cubic Newton-Schulz converges to it; the coefficients that Muon uses are only faster.
    found = nearest_orthogonal(matrix, (1.5, -0.5, 0.0), 40)
    torch.testing.assert_close(found, u @ v, atol=1e-4, rtol=0)
