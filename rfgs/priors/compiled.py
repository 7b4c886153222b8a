"""A network that OpenVINO compiled, and how it evaluates a batch: in parts, each by a core of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rfgs.priors.engine import Call


class Program:
    """A network compiled for one batch size, of which each stream evaluates a part at the same time."""

    def __init__(self, compiled: Any, streams: int) -> None:
        self._requests, self._lock = (
            [compiled.create_infer_request() for _ in range(streams)],
            threading.Lock(),
        )

    def __call__(self, call: Call) -> Tensor:
        """The network's output, float32."""
        with self._lock:
            for request, part in zip(self._requests, call.parts(len(self._requests)), strict=True):
                for index, tensor in enumerate(part):
                    request.get_input_tensor(index).data[...] = plain(tensor).numpy()
            if len(self._requests) == 1:
                self._requests[0].infer()  # (in this thread, half a millisecond less)
            else:
                for request in self._requests:
                    request.start_async()
                for request in self._requests:
                    request.wait()
            return torch.cat(
                [torch.from_numpy(request.get_output_tensor(0).data) for request in self._requests]
            )


def streams(batch: int, threads: int) -> int:
    """Parts of a batch that are evaluated at the same time, all of one size.

    Threads that share an evaluation wait for one another after each layer, and all for the one whose core another program has.
    """
    return max(parts for parts in range(1, min(batch, threads) + 1) if batch % parts == 0)


def plain(tensor: Tensor) -> Tensor:
    """In float32, if it is of real numbers."""
    return tensor.float() if tensor.is_floating_point() else tensor
