"""A batch on a Ray cluster: the same function in a task for each asset, with what it takes, on folders that all machines share.

What Ray does here: it finds a machine with room, gives a task its own GPU, and starts it again elsewhere where its process or its
machine dies. Where that was by its checkpoint, `rfgs.runs.batch.worker.make` goes on from there.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from rfgs.errors import UserError
from rfgs.runs.batch.local import Ended, Stop
from rfgs.runs.batch.places import Needs
from rfgs.runs.batch.plan import Asset
from rfgs.runs.batch.worker import to_text

IN_FLIGHT = 1000
"""Tasks that the cluster is told of at a time: enough for it to grow by, and few enough to be looked at every second."""
_PERIOD = 1.0
"""Seconds between two looks at whether the batch is to stop."""


def connect(address: str) -> Any:
    """Ray, connected to the cluster.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"--ray {address}: Ray is not installed; install it with `pip install 'rfgs[ray]'`, or leave out --ray"
        ) from error
    if not ray.is_initialized():
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as error:  # It raises many kinds, of which none says more.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"--ray {address}: no cluster answers there ({reason}); start one with `ray start --head`, or leave out --ray"
            ) from error
    return ray


def _knock(address: str) -> None:
    """OSError where nobody listens at host:port or ray://host:port, for which Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def device(address: str, choice: str) -> Literal["cpu", "cuda"]:
    """What the cluster's machines compute on, where "auto" takes GPUs if there are any.

    Raises:
        UserError: see `connect`; or a GPU is asked for and the cluster has none.
    """
    gpus = connect(address).cluster_resources().get("GPU", 0)
    if choice == "cuda" and not gpus:
        raise UserError(f"--device cuda: the cluster at {address} has no GPU; add a machine that has one")
    return "cuda" if gpus and choice != "cpu" else "cpu"


def check_room(address: str, needs: Needs) -> None:
    """That some machine of the cluster has room for one asset; else Ray would wait for one for ever.

    Raises:
        UserError: none has.
    """
    wanted = {"CPU": needs.threads, "GPU": needs.gpus, "memory": needs.memory}
    nodes = [node["Resources"] for node in connect(address).nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        raise UserError(
            f"--ray {address}: no machine has the {needs.threads} cores, {needs.memory / 2**30:.0f} GiB and {needs.gpus} GPUs "
            "that an asset takes; add one, or take a smaller --backend"
        )


def make(text: str) -> None:
    """A task: `rfgs.runs.batch.worker.make` in a process of Ray's, which takes no other task afterwards."""
    from rfgs.runs.batch.worker import Stop as Signals
    from rfgs.runs.batch.worker import make as make_asset
    from rfgs.runs.batch.worker import of_text

    with Signals() as stop:  # ray.cancel is an interrupt to it.
        make_asset(of_text(text), stop=stop)


def run(assets: Sequence[Asset], needs: Needs, *, address: str, retries: int, stop: Stop) -> Iterator[Ended]:
    """As `rfgs.runs.batch.local.run`, on a cluster.

    Args:
        needs: what the most demanding asset takes.
    """
    ray = connect(address)
    check_room(address, needs)
    task = ray.remote(
        num_cpus=needs.threads,
        num_gpus=needs.gpus,
        memory=needs.memory,
        max_retries=retries,
        retry_exceptions=True,
        max_calls=1,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(needs.threads)}},
    )(make)
    waiting = deque(assets)
    flying: dict[Any, Asset] = {}
    canceled = False
    try:
        while flying or (waiting and not stop.asked):
            while waiting and len(flying) < IN_FLIGHT and not stop.asked:
                asset = waiting.popleft()
                # Its machines have working folders of their own.
                shared = replace(asset, folder=asset.folder.absolute())
                flying[task.options(name=asset.name).remote(to_text(shared))] = asset
            if stop.asked and not canceled:
                canceled = True
                for one in flying:
                    ray.cancel(one, force=False)
            for one in ray.wait(list(flying), num_returns=1, timeout=_PERIOD)[0]:
                asset = flying.pop(one)
                try:
                    ray.get(one)
                    yield Ended(asset)
                except Exception as error:
                    yield Ended(asset, stopped=True) if stop.asked else Ended(asset, _reason(error))
    finally:
        for one in flying:
            ray.cancel(one, force=True)


def _reason(error: Exception) -> str:
    """What a task failed of, in a line."""
    cause = getattr(error, "cause", None) or error
    said = [line for line in str(cause).strip().splitlines() if line.strip()] or [type(error).__name__]
    return said[0] if isinstance(cause, UserError) else f"{type(cause).__name__}: {said[-1].strip()}"
