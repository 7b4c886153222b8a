"""Ray's client: four drafts by `--ray ray://`, two workers and the driver killed, against the same without Ray, byte for byte.

ray start --head --num-cpus 2 --ray-client-server-port 20077     # with pip install 'rfgs[ray]' 'ray[client]'
python bench/ray_client.py ray://127.0.0.1:20077                 # one minute on two cores
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from rfgs.runs import folders

PROMPTS = ("a red cube", "a blue ball", "a cactus", "a green cone")
FILES = ("splats.ply", "turntable.mp4")


def command(output: Path, *more: str) -> list[str]:
    """The batch, by itself."""
    program = [sys.executable, "-c", "from rfgs.cli.main import main; main()", "batch", *PROMPTS]
    return [*program, "--quality", "draft", "--set", "steps=100", "--output", str(output), *more]


def kill_some(output: Path, driver: subprocess.Popen) -> list[str]:
    """Kills the processes of the first two assets that have a checkpoint, and then the driver; who was killed."""
    killed: list[str] = []
    while driver.poll() is None:
        for folder in output.glob("*/"):
            try:
                holder = re.search(r"process (\d+) ", (folder / folders.HOLDER).read_text())
                if holder and (folder / folders.CHECKPOINT).exists() and folder.name not in killed:
                    if len(killed) == 2:
                        driver.kill()
                        return [*killed, "the driver"]
                    os.kill(int(holder[1]), signal.SIGKILL)
                    killed.append(folder.name)
            except OSError:
                continue
        time.sleep(0.05)
    return killed


def main(address: str, /) -> None:
    """Prints who was killed and which files are the same; exit code 1 where one is not.

    Args:
        address: ray://HOST:PORT of a cluster on this machine.
    """
    with tempfile.TemporaryDirectory() as place:
        ray, plain = Path(place, "ray"), Path(place, "plain")
        driver = subprocess.Popen(command(ray, "--ray", address))
        print("killed:", ", ".join(kill_some(ray, driver)))
        driver.wait()
        time.sleep(3)
        subprocess.run(command(ray, "--ray", address), check=True)
        subprocess.run(command(plain, "--workers", "2"), check=True)
        names = [f"{folder.name}/{file}" for folder in sorted(plain.glob("*/")) for file in FILES]
        other = [name for name in names if (ray / name).read_bytes() != (plain / name).read_bytes()]
    print(f"{len(names) - len(other)} of {len(names)} files are the same", *other)
    sys.exit(bool(other))


if __name__ == "__main__":
    tyro.cli(main)
