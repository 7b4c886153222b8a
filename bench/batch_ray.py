"""A batch on a Ray cluster of two nodes whose workers are killed and which loses a node: is every asset the same, byte for byte?

    python bench/batch_ray.py     # some minutes on two cores; needs rfgs[ray]

Eight drafts are made by `rfgs.runs.batch.local` first, one thread each, and then twice on a cluster of two local nodes of one
core each. The second time processes that make an asset are killed five times by SIGKILL, and after the fourth time a node goes
too, so that the other one does the rest. At the end, splats, turntables and previews of all three have to be the same. What the
engines cost beside the seconds that runs account for themselves is printed.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import tyro
from forked import same_files

from rfgs.runs import folders
from rfgs.runs.batch import local, on_ray
from rfgs.runs.batch.places import Place, needs
from rfgs.runs.batch.plan import Asset, name_of
from rfgs.runs.job import Job

PROMPTS = (
    "a red cube",
    "a blue ball",
    "a green cone",
    "a cactus",
    "a red mug",
    "a yellow duck",
    "a snowman",
    "a rocket",
)


def planned(folder: Path, steps: int) -> list[Asset]:
    """The assets of a batch."""
    settings = {"steps": steps}
    return [
        Asset(
            Job(prompt, guidance="rfds", quality="draft", settings=settings), folder / name_of(prompt, 0, {})
        )
        for prompt in PROMPTS
    ]


def made_by(folder: Path) -> int | None:
    """The process that is at work in an asset's folder; None where there is none, or no checkpoint to go on from yet."""
    try:
        if not (folder / folders.CHECKPOINT).exists():
            return None
        found = re.search(r"process (\d+) ", (folder / folders.HOLDER).read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


def killer(
    assets: list[Asset], kills: int, cluster: Any, node: Any, over: threading.Event, said: list[str]
) -> None:
    """Kills workers at work, each of another asset while there are some, and removes the node at the last but one."""
    killed: set[Path] = set()
    count = 0
    while count < kills and not over.wait(1.0):
        for asset in assets:
            process = made_by(asset.folder)
            if process is None or (asset.folder in killed and len(killed) < len(assets) - 1):
                continue
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.add(asset.folder)
            count += 1
            steps = folders.read_record(asset.folder)["steps_done"]
            said.append(f"killed the process of {asset.name}, after {steps} steps")
            print(said[-1], flush=True)
            if count == max(1, kills - 1):
                cluster.remove_node(node, allow_graceful=False)
                said.append("removed a node")
                print(said[-1], flush=True)
            break


def drained(assets: list[Asset], ended: Any) -> float:
    """Seconds until all ended; an asset that was not made ends the program."""
    began = time.perf_counter()
    for end in ended:
        if end.problem:
            raise SystemExit(f"error: {end.asset.name}: {end.problem}")
        print(f"made {end.asset.name}", flush=True)
    return time.perf_counter() - began


def own_seconds(assets: list[Asset]) -> float:
    """What the runs account for themselves, summed."""
    return sum(sum(folders.read_record(asset.folder)["seconds"].values()) for asset in assets)


def main(steps: int = 110, kills: int = 5) -> None:
    """Make, kill, compare and print; exit code 1 if there is a difference.

    Args:
        steps: of each draft.
        kills: how many processes are killed.
    """
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray")  # Sockets have short paths only.
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        alone, shared = planned(base / "local", steps), planned(base / "ray", steps)
        places = [Place({"OMP_NUM_THREADS": "1"})] * 2
        wall = drained(alone, local.run(alone, places, retries=0, stop=local.Stop()))
        own = own_seconds(alone)
        told = [
            f"local: {len(alone)} drafts in {wall:.1f} s at 2 places; the runs account for {own:.1f} s of {2 * wall:.1f}"
        ]

        most = needs(alone[0].job)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        node = cluster.add_node(num_cpus=1)
        try:
            calm = planned(base / "calm", steps)
            wall = drained(
                calm, on_ray.run(calm, most, address=cluster.address, retries=0, stop=local.Stop())
            )
            own = own_seconds(calm)
            told.append(
                f"ray:   {len(calm)} drafts in {wall:.1f} s at 2 places; the runs account for {own:.1f} s of {2 * wall:.1f}"
            )
            over, said = threading.Event(), []
            thread = threading.Thread(target=killer, args=(shared, kills, cluster, node, over, said))
            thread.start()
            try:
                wall = drained(
                    shared,
                    on_ray.run(shared, most, address=cluster.address, retries=2 * kills, stop=local.Stop()),
                )
            finally:
                over.set()
                thread.join()
            told.append(
                f"ray:   {len(shared)} drafts in {wall:.1f} s with {len(said) - 1} kills and a node removed"
            )
        finally:
            import ray

            ray.shutdown()
            cluster.shutdown()
        differing = {
            asset.name: found
            for asset, calmly, killed in zip(alone, calm, shared, strict=True)
            if (found := logless(asset.folder, calmly.folder) + logless(asset.folder, killed.folder))
        }
        resumed = sum(len(folders.read_record(asset.folder)["resumed_after_steps"]) for asset in shared)
    print("\n".join(told))
    print(f"{resumed} times an asset was resumed from a checkpoint")
    print(
        "; ".join(f"{name}: {', '.join(found)}" for name, found in differing.items())
        or "all the same, byte for byte"
    )
    raise SystemExit(bool(differing) or len(said) < kills + 1)


def logless(one: Path, other: Path) -> list[str]:
    """Names of files that differ, but for what processes said."""
    return [name for name in same_files(one, other) if name != local.LOG]


if __name__ == "__main__":
    tyro.cli(main)
