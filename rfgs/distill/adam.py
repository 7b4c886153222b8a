"""Adam for splats: torch's own fused kernel, in what the loop needs of an optimizer.

`torch.optim.Adam` itself would import torch's compiler when it is made, which takes as long as importing torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma & Ba 2015), one call a group; its state is as `torch.optim.Adam`'s, which it reads too.

    Args:
        groups: each with its "params", a list of leaves, and their learning rate, "lr"; what else they hold stays there.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], eps: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{**group, "betas": betas, "eps": eps} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        """Of each parameter that has had a gradient: "step", 0-d, and the moments, "exp_avg" and "exp_avg_sq"."""

    @torch.no_grad()
    def step(self) -> None:
        """Moves all parameters that have gradients."""
        for group in self.param_groups:
            moved = [value for value in group["params"] if value.grad is not None]
            states = [self._state_of(value) for value in moved]
            beta1, beta2 = group["betas"]
            adam(
                moved,
                [value.grad for value in moved],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=0.0,
                eps=group["eps"],
                maximize=False,
            )

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for value in self._parameters():
            value.grad = None

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on; its tensors are the live ones."""
        numbers = {value: number for number, value in enumerate(self._parameters())}
        groups = [
            {**group, "params": [numbers[value] for value in group["params"]]} for group in self.param_groups
        ]
        return {
            "state": {numbers[value]: state for value, state in self.state.items()},
            "param_groups": groups,
        }

    def load_state_dict(self, noted: dict[str, Any]) -> None:
        """Goes on from what `state_dict` of an optimizer of as many parameters gave."""
        parameters = self._parameters()
        for group, said in zip(self.param_groups, noted["param_groups"], strict=True):
            group.update({name: said[name] for name in group if name != "params"})
        self.state = {
            parameters[number]: {
                name: torch.as_tensor(value).to(parameters[number].device, copy=True)
                for name, value in state.items()
            }
            for number, state in noted["state"].items()
        }

    def _parameters(self) -> list[Tensor]:
        return list(chain.from_iterable(group["params"] for group in self.param_groups))

    def _state_of(self, value: Tensor) -> dict[str, Tensor]:
        if value not in self.state:
            self.state[value] = {
                "step": torch.zeros((), dtype=torch.float32, device=value.device),
                "exp_avg": torch.zeros_like(value),
                "exp_avg_sq": torch.zeros_like(value),
            }
        return self.state[value]
