"""`rfgs studio` as a process: its address, and its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path


def test_it_says_where_it_is_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    words = ["studio", "--output", str(tmp_path / "runs"), "--port", "0", "--no-open"]
    with subprocess.Popen(
        [sys.executable, "-c", "from rfgs.cli.main import main; main()", *words],
        stderr=subprocess.PIPE,
        text=True,
    ) as studio:
        assert studio.stderr is not None
        line = studio.stderr.readline()
        assert line.startswith("studio: http://127.0.0.1:") and "?token=" in line
        with urllib.request.urlopen(line.split()[1], timeout=60) as answer:
            assert b"rfgs studio" in answer.read()
        studio.send_signal(signal.SIGINT)
        assert studio.wait(60) == 0 and "Traceback" not in studio.stderr.read()
