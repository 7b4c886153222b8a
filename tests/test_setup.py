"""Which torch `setup.sh` takes on which machine, with an interpreter that only notes what pip is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

PYTHON = """#!/bin/sh
case "$*" in
    --version) echo "Python 3.12.0" ;;
    "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-c import sys; sys.exit(sys.version_info"*) exit {too_old} ;;
    "-c import pip") exit 0 ;;
    "-c import torch") exit 1 ;;
    *cuda.toolkit*) echo "{toolkit}" ;;
    *urllib.request*) exit {unreachable} ;;
    *"--no-index"*) [ -n "{local}" ] && echo "{local}" >.venv/report.json ;;
    *"--dry-run"*) echo '{plain}' >.venv/report.json ;;
    *"-m pip"*)
        echo "$*" | sed 's/.* install -qq //; s/.* uninstall -qq -y /uninstall /' >>pip.log
        printf '#!/bin/sh\\necho "rfgs $*" >>pip.log; exit {warmup}\\n' >.venv/bin/rfgs && chmod +x .venv/bin/rfgs ;;
    *) exec {real} "$@" ;;
esac
"""


def report(**versions: str) -> str:
    items = ", ".join(f'{{"metadata": {{"name": "{n}", "version": "{v}"}}}}' for n, v in versions.items())
    return f'{{"install": [{items}]}}'


CUDA_BUILD = report(torch="2.14.1", nvidia_cudnn_cu13="9.1", cuda_toolkit="13.0")
CPU_BUILD = report(torch="2.14.1", filelock="3.0")


class Machine:
    """A folder with setup.sh and a PATH on which nothing but the tools of setup.sh is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("setup.sh", "pyproject.toml", "setup.py"):
            shutil.copy(ROOT / name, folder)
        self.tools = folder / "tools"
        self.tools.mkdir()
        for tool in ("sh", "dirname", "uname", "grep", "sed", "cat", "cksum", "rm", "cp", "mkdir", "chmod"):
            path = shutil.which(tool)
            assert path is not None
            (self.tools / tool).symlink_to(path)
        self.has()

    def has(
        self,
        *,
        too_old: int = 0,
        reachable: bool = False,
        local: str = "",
        plain: str = CUDA_BUILD,
        toolkit: str = "",
        warmup: int = 0,
    ) -> None:
        """What the interpreter, the CPU index, the wheels on disk, the usual index, the missing CUDA toolkit and the exit
        code of the kernels' compilation are like."""
        text = PYTHON.format(
            too_old=too_old,
            unreachable=int(not reachable),
            local=local.replace('"', '\\"'),
            plain=plain,
            real=sys.executable,
            toolkit=toolkit,
            warmup=warmup,
        )
        self.add("python3", text)

    def add(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def setup(self, *arguments: str) -> tuple[int, str, list[str]]:
        """The exit code, the messages, and what pip and rfgs were asked for."""
        log = self.folder / "pip.log"
        log.unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", "setup.sh", *arguments],
            cwd=self.folder,
            env={**os.environ, "PATH": str(self.tools)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr, log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if os.name != "posix" or sys.platform == "darwin":
        pytest.skip("what is decided here is decided on Linux")
    return Machine(tmp_path)


def asked(torch: str, project: str = "--editable .", *, gpu: bool = False) -> list[str]:
    # What OpenVINO brings beside tells its maker of every import.
    openvino = [] if gpu else ["--editable .[openvino]", "uninstall openvino-telemetry"]
    return ["pip>=22.2", torch, project, *openvino, "rfgs warmup"]


def test_with_a_gpu_the_usual_torch(machine: Machine) -> None:
    machine.add("nvidia-smi", "#!/bin/sh\necho 'GPU 0: NVIDIA H100'\n")
    assert machine.setup()[::2] == (0, asked("torch", gpu=True))


def test_with_a_gpu_and_no_toolkit_the_one_of_the_index(machine: Machine) -> None:
    machine.add("nvidia-smi", "#!/bin/sh\necho 'GPU 0: NVIDIA H100'\n")
    machine.has(toolkit="cuda-toolkit[nvcc]==13.0.*")
    assert machine.setup()[2] == [*asked("torch", gpu=True)[:-1], "cuda-toolkit[nvcc]==13.0.*", "rfgs warmup"]


@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_kernels_that_cannot_be_compiled_leave_the_cpu(warmup: int, machine: Machine) -> None:
    machine.has(plain=CPU_BUILD, warmup=warmup)
    code, messages, _ = machine.setup()
    assert code == (1 if warmup == 1 else 0)
    assert ("ready: " in messages) == (code == 0) and ("rfgs doctor says" in messages) == (warmup == 2)


def test_a_driver_without_a_gpu_is_no_gpu(machine: Machine) -> None:
    machine.add("nvidia-smi", "#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    machine.has(reachable=True)
    assert machine.setup()[::2] == (0, asked(f"--extra-index-url {CPU_INDEX} torch"))


def test_without_a_gpu_the_cpu_index(machine: Machine) -> None:
    machine.has(reachable=True)
    assert machine.setup("--dev")[::2] == (
        0,
        asked(f"--extra-index-url {CPU_INDEX} torch", "--editable .[dev]"),
    )


def test_without_that_index_a_wheel_on_disk(machine: Machine) -> None:
    machine.has(local=report(torch="2.13.0+cpu"), plain=report(torch="2.13.0+cpu", filelock="3.0"))
    assert machine.setup()[::2] == (0, asked("torch==2.13.0+cpu"))


def test_without_either_the_usual_torch_if_it_is_small(machine: Machine) -> None:
    machine.has(plain=CPU_BUILD)
    assert machine.setup()[::2] == (0, asked("torch"))


def test_gigabytes_of_cuda_are_never_taken_unasked(machine: Machine) -> None:
    code, messages, log = machine.setup()
    assert code == 1 and log == ["pip>=22.2"]
    assert "there is no GPU here" in messages and "./setup.sh --cuda" in messages
    assert machine.setup("--cuda")[::2] == (0, asked("torch", gpu=True))


def test_a_second_call_installs_nothing(machine: Machine) -> None:
    machine.has(reachable=True)
    machine.setup()
    assert machine.setup()[::2] == (0, ["rfgs warmup"])
    assert machine.setup("--dev")[2] == asked(f"--extra-index-url {CPU_INDEX} torch", "--editable .[dev]")
    with (machine.folder / "pyproject.toml").open("a") as stream:
        stream.write("# A dependency was added.\n")
    assert "--editable .[dev]" in machine.setup("--dev")[2]
    assert machine.setup()[2] == ["rfgs warmup"], "who has the tools for tests has all the rest"


def test_an_old_python_and_an_unknown_option(machine: Machine) -> None:
    machine.has(too_old=1)
    code, messages, log = machine.setup()
    assert (code, log) == (1, []) and "Python 3.12.0 is too old; rfgs needs 3.10 or newer" in messages
    code, messages, log = machine.setup("--gpu")
    assert (code, log) == (1, []) and messages == "setup: unknown option --gpu; there are --dev and --cuda\n"
