"""Several processes that make one asset: each has a share of a step's views, and all of them the same splats.

What is drawn is drawn for all views, by the same generator in each process, which then takes its share; gradients are added up;
what is set from outside, the first process says to all. So every process takes the same step, and it is the one that a single
process would take, up to rounding. `Share()` is that of a single process: it has all views, and everything is left as it is.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from rfgs.errors import UserError

T = TypeVar("T")
FOREVER = timedelta(days=30)
"""What processes wait for one another at most: a run may be paused over a weekend."""
_ENDED = "rfgs/ended"


class Ended(UserError):
    """Another process of this run has ended, so that this one cannot go on."""


@dataclass(frozen=True, eq=False)
class Share:
    """What one of several processes has of a run."""

    rank: int = 0
    processes: int = 1
    views: int = 0
    """Of the step, in all processes; see `of`."""
    store: Any = None
    """Where a process that ends says why."""

    @property
    def first(self) -> bool:
        """Whether this process is the one that talks to the user and writes files."""
        return self.rank == 0

    def of(self, views: int) -> Share:
        """The share of a step with so many views in all.

        Raises:
            UserError: there are fewer views than processes.
        """
        if views < self.processes:
            raise UserError(
                f"views_per_step {views}: is less than the {self.processes} processes that share them; "
                f"take --views-per-step {self.processes}, or fewer processes"
            )
        return replace(self, views=views)

    @property
    def part(self) -> slice:
        """Which of the step's views are this process's."""
        each, over = divmod(self.views, self.processes)
        start = self.rank * each + min(self.rank, over)
        return slice(start, start + each + (self.rank < over))

    def largest(self, views: int) -> int:
        """How many of so many views a process has at most."""
        return -(-views // self.processes)

    @property
    def weight(self) -> float:
        """This process's part of the step's views, 0 to 1: of a mean over them, and so of the loss."""
        return 1.0 if self.processes == 1 else (self.part.stop - self.part.start) / self.views

    def take(self, drawn: Any) -> Any:
        """This process's rows of what was drawn for all of the step's views: a tensor [views, ...] or `Cameras`."""
        return drawn if self.processes == 1 else drawn[self.part]

    def total(self, mine: int) -> int:
        """The number of the step's views, of which this process has `mine`."""
        return mine if self.processes == 1 else self.views

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Adds up each of these tensors over all processes, in place; all have the same bits afterwards.

        Raises:
            Ended: another process has.
        """
        if self.processes == 1:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        with self._together():
            # On the CPU first: whoever waits on a GPU for a process that is gone waits for good.
            dist.all_reduce(torch.zeros(1))
            dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def same(self, value: T) -> T:
        """The first process's value, in all of them, as a copy that nobody changes; of a single process, the value itself.

        Raises:
            Ended: another process has.
        """
        if self.processes == 1:
            return value
        box = [pickle.dumps(value) if self.first else b""]
        with self._together():
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return pickle.loads(box[0])

    def align(self, generator: torch.Generator) -> None:
        """Has all processes draw what the first one draws from here on, whatever a guidance has drawn for its own views only."""
        if self.processes > 1:
            generator.set_state(self.same(generator.get_state()))

    def tell(self, error: BaseException) -> None:
        """Says, before this process ends, what the first one is to tell the user."""
        line = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, Ended):
            with suppress(Exception):  # The store goes with the first process.
                self.store.set(_ENDED, f"process {self.rank + 1} of {self.processes}: {line}")

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # Which is what gloo and NCCL raise when a process is gone.
            said = "one of the processes of this run has ended without a word, as when the system is out of memory"
            with suppress(Exception):
                if self.first and self.store.check([_ENDED]):
                    said = self.store.get(_ENDED).decode()
            raise Ended(said) from error


def join() -> Share:
    """This process's share, once all the others have come; on a GPU of its own, where there are GPUs.

    Raises:
        UserError: the launcher has started more processes than there are GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        return Share()  # No launcher has started this one.
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if gpus:
        if local >= gpus:
            raise UserError(f"more processes than the {gpus} GPUs of this machine; start as many as it has")
        torch.cuda.set_device(local)
    store, rank, processes = next(dist.rendezvous("env://", timeout=FOREVER))
    backend = "cpu:gloo,cuda:nccl" if gpus and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=FOREVER)
    return Share(rank, processes, store=store)


def leave() -> None:
    """Parts from the other processes."""
    if dist.is_available() and dist.is_initialized():
        with suppress(Exception):
            dist.destroy_process_group()
