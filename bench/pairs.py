"""Two commands at once in one folder: does every asset belong to its record?

    python bench/pairs.py --pairs 50     # a minute or two; Linux or macOS

Two new runs with different seeds, two that overwrite, one of each, and two that go on with the same killed run; the second
begins at a random moment of the first, or soon after it. Whoever comes second is told so in a line, with exit code 2, or comes
after the first. At the end the folder has to hold the files of the seed that its record names, byte for byte.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from pathlib import Path

import forked
import tyro
from full_disk import faults
from kills import after

WAYS = ("both new", "both overwrite", "one overwrites", "both resume")


def generate(seed: int, folder: Path, *more: str) -> list[str]:
    return ["generate", *forked.DRAFT, "--seed", str(seed), "--output", str(folder), *more]


def commands(way: str, folder: Path, log: Path, seconds: float) -> tuple[list[str], list[str]]:
    """The two, with what they find in the folder made."""
    if way == "both resume":
        forked.command(generate(1, folder), log, after(0.7 * seconds))
        return (["generate", "--resume", str(folder), "--no-viewer"],) * 2
    first = ("--overwrite",) if way == "both overwrite" else ()
    second = ("--overwrite",) if way != "both new" else ()
    return generate(1, folder, *first), generate(2, folder, *second)


def problems(folder: Path, wholes: dict[int, Path], ends: list[forked.Ended]) -> list[str]:
    """What is wrong after both have ended."""
    found = [
        f"exit code {end.code}: {end.text[-300:]}" for end in ends if end.code not in (0, 2) or end.traceback
    ]
    found += faults(folder)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    found += [f"it is {record['state']}"] * (record["state"] != "finished")
    whole = wholes[record["job"]["seed"]]
    return found + [f"other bytes in {name}" for name in forked.same_files(folder, whole)]


def main(pairs: int = 50) -> None:
    """Begin, wait, compare and print; exit code 1 if there is a problem.

    Args:
        pairs: how many of each way.
    """
    rng, bad, refused = random.Random(0), 0, 0
    with tempfile.TemporaryDirectory() as place:
        base, log = Path(place), Path(place) / "log"
        forked.warm_up(base / "warm")
        wholes = {seed: base / f"whole-{seed}" for seed in (1, 2)}
        seconds = max(forked.command(generate(seed, whole), log).seconds for seed, whole in wholes.items())
        for number in range(pairs * len(WAYS)):
            way, folder = WAYS[number % len(WAYS)], base / "run"
            one, other = commands(way, folder, log, seconds)
            first = forked.start(one, base / "first")
            time.sleep(1.5 * rng.random() * seconds)
            second = forked.start(other, base / "second")
            ends = [forked.wait(first, base / "first"), forked.wait(second, base / "second")]
            found = problems(folder, wholes, ends)
            bad, refused = bad + bool(found), refused + sum(end.code == 2 for end in ends)
            codes = " and ".join(str(end.code) for end in ends)
            verdict = "; ".join(found) or "the record's own asset"
            print(f"{way}: ended with {codes}: {verdict}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{pairs * len(WAYS)} pairs, {refused} commands refused, {bad} with problems")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    tyro.cli(main)
