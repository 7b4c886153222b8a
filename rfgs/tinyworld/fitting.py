"""The training loop that the tiny priors share: seeded, resumable, ended by a budget of processor time."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[torch.Generator], Tensor]


def autocast() -> torch.autocast:
    """bfloat16 where the processor multiplies in it; elsewhere float32, which is three times as fast there."""
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)


def make_optimisers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the transformer blocks, AdamW on everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        in_block = "transformer_blocks" in name and parameter.ndim == 2 and "norm" not in name
        (matrices if in_block else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=2 * rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def fit(
    model: Any,
    average: nn.Module,
    loss_of: Loss,
    checkpoint: Path,
    *,
    seconds: float,
    seed: int,
    rate: float = 1e-3,
    compile: bool = False,
    save_every: int = 100,
) -> Iterator[dict]:
    """Train for `seconds` of processor time in all (over restarts); yields metrics at every checkpoint and resumes from it.

    Processor time, summed over threads, so that a busy or sleeping machine makes the model later and not weaker. The
    learning rate follows the time that was spent: warm-up over 100 steps, constant, then linear to 0 over the last
    half. Weights are averaged (EMA); the average is what ships.

    Args:
        model: has `prepare(compile)`, which makes it fast; its weights may have been set before.
        average: another model of the same shape; it starts as a copy.
        loss_of: the loss of one batch, drawn with a generator that is seeded with the step.

    Raises:
        RuntimeError: a weight that learns in the plain model has no gradient in the prepared one.
    """
    average.load_state_dict(model.state_dict())
    optimisers = make_optimisers(model, rate)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        step, spent = state["step"], state["spent"]
    loss_of(torch.Generator().manual_seed(seed)).backward()
    idle = _idle_weights(model)
    model.zero_grad(set_to_none=True)
    model.prepare(compile)
    checked = False
    weights: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(average.parameters())
    rates = [group["lr"] for group in (o.param_groups[0] for o in make_optimisers(average, rate))]
    started, losses = time.process_time() - spent, []
    while True:
        progress = (time.process_time() - started) / seconds
        for optimiser, full_rate in zip(optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = full_rate * min(1.0, step / 100, max(0.0, (1 - progress) / 0.5))
        loss = loss_of(torch.Generator().manual_seed(seed * 1_000_003 + step))
        loss.backward()
        if not checked and (lost := _idle_weights(model) - idle):
            # A compiler that loses the gradient of a part trains the rest without a word.
            raise RuntimeError(
                f"prepare() takes the gradient of {len(lost)} weights, such as {sorted(lost)[0]}"
            )
        checked = True
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(0.998, (1 + step) / (10 + step))
            torch._foreach_lerp_(averaged, weights, 1 - decay)
        step += 1
        losses.append(loss.item())
        if step % save_every == 0 or progress >= 1:
            spent = time.process_time() - started
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                "step": step,
                "spent": spent,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            yield {"step": step, "seconds": round(spent, 1), "loss": round(sum(losses) / len(losses), 5)}
            losses = []
        if progress >= 1:
            return


def _idle_weights(model: nn.Module) -> set[str]:
    """Names of the weights whose gradient is missing or 0 throughout. SD3's last block has three: nothing reads its text."""
    return {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
