"""Runs `rfgs` as a person does, in a process of its own, for what is measured and pictured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.viewer.chromium import PATIENCE

MAIN = "from rfgs.cli.main import main; main()"


class Command:
    """One command from its start to its end. A context manager, which ends it the hard way.

    Args:
        words: of its command line, after `rfgs`.
        program: Python that does what `rfgs` would.
    """

    def __init__(self, *words: object, program: str = MAIN) -> None:
        self._start = time.perf_counter()
        self.output = ""
        """All that it has printed so far, of both streams."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Linux shares a busy processor by session, so that commands side by side get alike.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """The address of its page, once it has printed one."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"(?:viewer|studio): (http://\S+)", self.output)):
            if time.monotonic() > deadline or self.done:
                raise RuntimeError(f"no page; the command says: {self.output[-2000:]}")
            time.sleep(0.1)
        return found.group(1)

    @property
    def done(self) -> bool:
        """Whether it has ended; what it used stays to be asked for by `wait`."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def processor_seconds(self) -> float:
        """What it has used of the processor so far (Linux)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self) -> tuple[float, float]:
        """Waits for its end: seconds of wall clock and of processor time, its own and none of a browser's.

        Raises:
            RuntimeError: it failed.
        """
        _, status, usage = os.wait4(self._process.pid, 0)
        wall = time.perf_counter() - self._start
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._reader.join(5)
        if self._process.returncode:
            raise RuntimeError(f"the command failed: {self.output[-2000:]}")
        return wall, usage.ru_utime + usage.ru_stime

    def interrupt(self) -> None:
        """Ends it as Ctrl-C does, and waits for that."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 4096):
            self.output += chunk.decode(errors="replace")
