"""The training loop that the tiny priors share: seeded, resumable, ended by a budget of time."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Drawing = Callable[[torch.Generator], Any]
"""What makes the material of a step; no tensor of it is on a GPU."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies in bfloat16; where it does not, float32 is three times as fast."""
    cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type != "cpu" or cpu


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where it is fast, else float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device))


class Muon32(torch.optim.Muon):
    """torch's Muon for processors without bfloat16, on which torch's own step is a quarter of the training."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """As torch's, with `adjust_lr_fn="match_rms_adamw"`: the nearest orthogonal matrix to the momentum, in float32."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
                update = nearest_orthogonal(update, group["ns_coefficients"], group["ns_steps"])
                rate = group["lr"] * 0.2 * max(weight.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)


def nearest_orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """About U V^T of U S V^T [M, N], by the quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon")."""
    a, b, c = coefficients
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrix.shape[0] > matrix.shape[1] else x


class _Steps(Dataset):
    """The material of every step, by its number."""

    def __init__(self, draw: Drawing, seed: int) -> None:
        self._draw, self._seed = draw, seed

    def __getitem__(self, step: int) -> Any:
        return self._draw(torch.Generator().manual_seed(self._seed * 1_000_003 + step))


def drawn_from(draw: Drawing, seed: int, first: int, workers: int) -> Iterator[Any]:
    """What `draw` makes for steps `first`, `first` + 1, ... with a generator that is seeded with the step, without end.

    Args:
        workers: processes that draw ahead, which changes nothing of what is drawn; 0 draws when asked.
    """
    steps = _Steps(draw, seed)
    if workers == 0:
        return map(steps.__getitem__, count(first))
    return iter(
        DataLoader(
            steps,
            sampler=range(first, first + 10**9),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=8,
            multiprocessing_context="spawn",
        )
    )


def make_optimizers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the transformer blocks, AdamW on everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        in_block = "transformer_blocks" in name and parameter.ndim == 2 and "norm" not in name
        (matrices if in_block else rest).append(parameter)
    kind = torch.optim.Muon if has_bfloat16(matrices[0].device) else Muon32
    return [
        kind(matrices, lr=2 * rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def fit(
    model: Any,
    average: nn.Module,
    draw: Drawing,
    loss_of: Callable[[Any, torch.Generator], Tensor],
    checkpoint: Path,
    *,
    seconds: float,
    seed: int,
    rate: float = 1e-3,
    compile: bool = False,
    save_every: int = 100,
    workers: int = 0,
    refresh: Callable[[], bool] = lambda: False,
) -> Iterator[dict]:
    """Train for `seconds` in all (over restarts); yields metrics at every checkpoint and resumes from it.

    On a CPU, seconds of processor time, summed over threads, so that a busy or sleeping machine makes the model later and
    not weaker; on a GPU they are the wall clock's. The learning rate follows the time that was spent: warm-up over 100
    steps, constant, then linear to 0 over the last half. Weights are averaged (EMA); the average is what ships.

    Args:
        model: has `prepare(compile)`, which makes it fast; its weights may have been set before, and are where they compute.
        average: another model of the same shape; it starts as a copy.
        draw: makes the material of a step from a CPU generator; with `workers`, something that can be pickled.
        loss_of: the loss of what was drawn, with a generator on the model's device for noise.
        refresh: called at every checkpoint; True if what `draw` draws from has grown.

    Raises:
        RuntimeError: a weight that learns in the plain model has no gradient in the prepared one.
    """
    device = next(model.parameters()).device
    clock = time.process_time if device.type == "cpu" else time.monotonic
    noise = torch.Generator(device)
    average.to(device).load_state_dict(model.state_dict())
    optimizers = make_optimizers(model, rate)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent = state["step"], state["spent"]
    loss_of(next(drawn_from(draw, seed, 0, 0)), noise.manual_seed(seed)).backward()
    idle = _idle_weights(model)
    model.zero_grad(set_to_none=True)
    model.prepare(compile)
    checked = False
    weights: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(average.parameters())
    rates = [group["lr"] for group in (o.param_groups[0] for o in make_optimizers(average, rate))]
    started, losses = clock() - spent, []
    material = drawn_from(draw, seed, step, workers)
    while True:
        progress = (clock() - started) / seconds
        for optimizer, full_rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = full_rate * min(1.0, step / 100, max(0.0, (1 - progress) / 0.5))
        loss = loss_of(next(material), noise.manual_seed(seed * 1_000_003 + step))
        loss.backward()
        if not checked and (lost := _idle_weights(model) - idle):
            # A compiler that loses the gradient of a part trains the rest without a word.
            raise RuntimeError(
                f"prepare() takes the gradient of {len(lost)} weights, such as {sorted(lost)[0]}"
            )
        checked = True
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(0.998, (1 + step) / (10 + step))
            torch._foreach_lerp_(averaged, weights, 1 - decay)
        step += 1
        losses.append(loss.detach())  # A number would have a GPU wait at every step.
        if step % save_every == 0 or progress >= 1:
            mean = torch.stack(losses).mean().item()
            spent = clock() - started
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "spent": spent,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            yield {"step": step, "seconds": round(spent, 1), "loss": round(mean, 5)}
            losses = []
            if refresh():
                material = drawn_from(draw, seed, step, workers)
        if progress >= 1:
            return


def _idle_weights(model: nn.Module) -> set[str]:
    """Names of the weights whose gradient is missing or 0 throughout. SD3's last block has three: nothing reads its text."""
    return {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
