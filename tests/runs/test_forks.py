"""Forks of a process that has imported everything: how they end, what they find, and that they may be forked at all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rfgs.cli.main import main
from rfgs.models import machine
from rfgs.runs import forks

pytestmark = pytest.mark.skipif(not forks.ABLE, reason="processes are forked on Linux only")


@pytest.fixture(autouse=True, scope="module")
def fewer_imports() -> Iterator[None]:
    """What is imported is the test below's matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forks, "IMPORTED", ("rfgs.runs.job",))
        yield


def at_work(what: str) -> None:
    """What the forks of these tests do."""
    usual = multiprocessing.get_start_method(allow_none=True) is None
    print(f"{what} {os.environ.get('PLACE')} {usual and 'rfgs.runs.job' in sys.modules}", flush=True)
    print("to stderr", file=sys.stderr)
    if what == "fails":
        raise ValueError("odd")
    if what == "exits":
        raise SystemExit(2)
    if what == "waits":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
        print(
            f"session {os.getsid(0) == os.getpid()}, {time.perf_counter() - forks.began() < 100}", flush=True
        )
        signal.pause()
    if what == "sleeps":
        time.sleep(600)


def begin(what: str, file: Path, **environment: str) -> forks.Fork:
    with file.open("ab") as log:
        return forks.Fork(at_work, (what,), output=log.fileno(), environment=environment)


def read_until(file: Path, text: str) -> str:
    deadline = time.monotonic() + 300
    while text not in file.read_text():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.01)
    return file.read_text()


@pytest.mark.parametrize(
    ("what", "code", "last"),
    [("ends", 0, "to stderr"), ("exits", 2, "to stderr"), ("fails", 1, "ValueError: odd")],
)
def test_how_one_ends(what: str, code: int, last: str, tmp_path: Path) -> None:
    fork = begin(what, tmp_path / "log", PLACE="here")
    assert fork.wait() == code == fork.poll() == fork.returncode
    first, *_, end = (tmp_path / "log").read_text().splitlines()
    assert first == f"{what} here True" and end == last
    fork.terminate()  # There is nobody any more, and that is no error.


def test_signals_reach_one_and_no_other(tmp_path: Path) -> None:
    told, killed = begin("waits", tmp_path / "a"), begin("sleeps", tmp_path / "b")
    assert "session True, True" in read_until(tmp_path / "a", "session")
    assert told.poll() is None
    told.terminate()
    assert told.wait() == 130
    read_until(tmp_path / "b", "stderr")
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert begin("ends", tmp_path / "c").wait() == 0  # After one was killed as well.


def test_ctrl_c_of_a_terminal_is_for_who_started_them(tmp_path: Path) -> None:
    """It goes to all processes of the group: not to forks, nor to what they are forked from, even while that imports."""
    program = (
        "import os, signal, sys, time; from pathlib import Path; from tests.runs import test_forks as t\n"
        "from rfgs.runs import forks\n"
        "signal.signal(signal.SIGINT, lambda *_: None); signal.signal(signal.SIGHUP, lambda *_: None)\n"
        "forks.prepare(); os.killpg(0, signal.SIGINT); os.killpg(0, signal.SIGHUP)\n"
        "one = t.begin('waits', Path(sys.argv[1])); t.read_until(Path(sys.argv[1]), 'session')\n"
        "os.killpg(0, signal.SIGINT); os.killpg(0, signal.SIGHUP); time.sleep(0.2); assert one.poll() is None\n"
        "one.terminate(); sys.exit(one.wait())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log")], capture_output=True, text=True, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr


def fresh(program: str, *arguments: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_nothing_is_computed_before_the_fork() -> None:
    """Threads and locks do not survive one, and OpenVINO and CUDA stay out of it."""
    out = fresh(
        "import os, sys; os.environ['OPENBLAS_NUM_THREADS'] = '1'\n"  # (which ends its threads itself before a fork)
        "import rfgs.runs.imported, torch, tqdm\n"
        "print(len(os.listdir('/proc/self/task')), 'openvino' in sys.modules, torch.cuda.is_initialized(),"
        " hasattr(tqdm.tqdm, '_lock'))"
    )
    assert out.split() == ["1", "False", "False", "False"]


@pytest.mark.skipif(machine.version("openvino") is None, reason="without OpenVINO diffusers is needed")
def test_all_that_a_run_imports_is_imported_and_no_library_of_models_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run whose network was converted before: such a library is what a short run's start was made of, for the most part."""
    words = ["generate", "a red cube", "--guidance", "rfds", "--steps", "2", "--views-per-step", "1"]
    words += ["--splats", "50", "--device", "cpu", "--port", "0", "--no-open", "--output"]
    program = (
        "import sys\n"
        "import rfgs.runs.imported\n"
        "before = set(sys.modules)\n"
        "from rfgs.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "ours = {name for name in set(sys.modules) - before if name.startswith('rfgs')}\n"
        "packages, known = ({name.split('.')[0] for name in names} for names in (sys.modules, before))\n"
        "models = {'diffusers', 'transformers', 'peft', 'torch._dynamo'} & set(sys.modules)\n"
        "print('new:', *sorted(ours), *sorted(packages - known - set(sys.stdlib_module_names)), *models)"
    )
    # For this one the network is converted, where it was not before.
    monkeypatch.setattr("rfgs.priors.engine.AUTO", True)
    main([*words, str(tmp_path / "first")])
    new = fresh(program, *words, tmp_path / "run").splitlines()[-1].split()[1:]
    assert [name for name in new if not name.startswith("openvino")] == []
