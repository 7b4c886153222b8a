"""Counting what a guidance costs: evaluations of the network, one for each sample in a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rfgs.priors.base import Condition, Prior


class Counted:
    """A prior that counts how many samples pass through its network; in all else it is the prior it was made from.

    `forward` are evaluations; `backward` are those of them that a gradient goes back through, which costs about two
    more. Neither text encoders nor the image encoder count.
    """

    def __init__(self, prior: Prior) -> None:
        self._prior: Any = prior
        self.forward = self.backward = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.forward += len(x_t)
        if torch.is_grad_enabled():
            self.backward += len(x_t)
        return self._prior.predict(x_t, t, condition)

    def take(self) -> dict[str, int]:
        """The evaluations since the last call."""
        taken = {"forward": self.forward, "backward": self.backward}
        self.forward = self.backward = 0
        return taken
