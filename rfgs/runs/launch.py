"""Starting the processes that make one asset together, and what a launcher tells each of them. No torch here.

`rfgs generate --gpus N` starts N of itself, as `accelerate launch` and `torchrun` do; in which of them it is, each reads from the
same variables of its environment.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from rfgs.models import threads

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C; what `docker stop` and schedulers send; what a closed terminal sends."""
PATIENCE = 60.0
"""Seconds that the first process has to leave a checkpoint once another one has ended."""
_PROGRAM = "from rfgs.cli.main import main; main()"


def processes() -> int:
    """How many processes a launcher has started, this one among them; 1 without one."""
    count = os.environ.get("WORLD_SIZE", "1")
    return int(count) if count.isdecimal() and "RANK" in os.environ else 1


def is_one_of_several() -> bool:
    """Whether a launcher has started this process as one of several."""
    return processes() > 1


def own_rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ["RANK"]) if is_one_of_several() else 0


def ignore_signals() -> None:
    """Leaves it to the first process, which Ctrl-C and its like are for, when this one ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def launch(count: int, arguments: Sequence[str], *, on_cpu: bool) -> int:
    """Runs `rfgs` with these arguments in `count` processes; returns the exit code of the first one.

    Signals go on to the first process. When it ends, the others do; when another one ends before its time, the first one is given
    `PATIENCE` to say so and to leave a checkpoint.
    """
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    if on_cpu:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, threads.cores() // count)))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            env={**environment, "WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,  # A terminal's Ctrl-C comes once, from here.
        )
        for rank in range(count)
    ]
    first, others = started[0], started[1:]

    def pass_on(number: int, frame: FrameType | None) -> None:
        if first.poll() is None:
            first.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        while first.poll() is None:
            if any(one.poll() for one in others):
                first.wait(PATIENCE)
            time.sleep(0.05)
    except subprocess.TimeoutExpired:
        print("rfgs: one of the processes of this run has ended, and the first one does not", file=sys.stderr)
    finally:
        for one in started:
            one.kill()
            one.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    code = first.returncode
    return code if code >= 0 else 128 - code


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
