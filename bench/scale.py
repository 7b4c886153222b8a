"""What a big batch and a big table cost to begin with: seconds and memory.

    python bench/scale.py     # a minute

`rfgs batch --dry-run` of many prompts, first with nothing made and then with everything; and the tables of `rfgs bench --report`
of many records, without its pictures. Each is measured in a process of its own, which tells its peak of memory.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import tyro

from rfgs.measure.plan import COLUMNS, SETS, Column, plan
from rfgs.measure.records import table_path
from rfgs.measure.rows import made_by, write_rows
from rfgs.models import words
from rfgs.runs import folders
from rfgs.runs.batch.plan import Asset, name_of
from rfgs.runs.job import QUALITIES, Job

CHILD = """
import json, resource, sys, time
began = time.perf_counter()
{body}
seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
DRY_RUN = "from rfgs.cli.main import main; main(['batch', {file!r}, '--output', {folder!r}, '--dry-run'])"
REPORT = """
from pathlib import Path
from rfgs.cli import bench
from rfgs.measure import sheets
sheets.write_plot = sheets.write_sheet = lambda *_, **__: None
bench.report(Path({folder!r}))
"""
APPEND = """
from pathlib import Path
from rfgs.measure.records import records_by_key, table_path
from rfgs.measure.rows import append_row
append_row(table_path(Path({folder!r})), {row!r})
"""


def measured(body: str) -> str:
    """What a piece of Python takes in a process of its own; processor time tells of a machine that is busy otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(body=body)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"error: {done.stderr}")
    seconds, processor, megabytes = json.loads(done.stdout.splitlines()[-1])
    return f"{seconds:.1f} s ({processor:.1f} s of processor time), {megabytes:.0f} MB"


def prompts(count: int) -> list[str]:
    """Different prompts of the small world."""
    colors = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black", "brown", "pink")
    things = list(words.THINGS)
    every = (
        f"a {color} {thing} on a {other} {base}"
        for thing, base, color, other in itertools.product(things, things, colors, colors)
        if thing != base
    )
    return list(itertools.islice(every, count))


def batch(base: Path, count: int) -> None:
    """The dry runs."""
    file, folder = base / "prompts.txt", base / "batch"
    file.write_text("\n".join(prompts(count)))
    body = DRY_RUN.format(file=str(file), folder=str(folder))
    print(f"rfgs batch --dry-run, {count} prompts, nothing made: {measured(body)}", flush=True)
    for prompt in prompts(count):
        asset = Asset(Job(prompt, guidance="rfds"), folder / name_of(prompt, 0, {}))
        asset.folder.mkdir(parents=True)
        record = {
            "state": "finished", "steps_done": 420, "config": {"steps": 420}, "job": asdict(asset.job), "splats": 3000,
            "seconds": {"prior": 1.0}, "versions": {str(i): "1.0" for i in range(16)}, "rest": "." * 2500,
        }  # fmt: skip
        (asset.folder / folders.RECORD).write_text(json.dumps(record))
        for name in (folders.SPLATS, folders.VIDEO, folders.STRIP):
            (asset.folder / name).touch()
    print(f"rfgs batch --dry-run, {count} prompts, all made: {measured(body)}", flush=True)
    went = DRY_RUN.format(file=str(file), folder=str(folder)).replace(", '--dry-run'", "")
    print(f"rfgs batch, {count} prompts, all made, with its page: {measured(went)}", flush=True)


def table(base: Path, count: int) -> None:
    """A table of so many records: reports, and one record more."""
    methods = [
        *COLUMNS,
        *(Column("world", "rfds-rev", label=name) for name in ("truth", "fit", "wrong", "start")),
    ]
    names = {one: [f"a {one} thing, number {i}" for i in range(100)] for one in SETS[:3]}
    seeds = 1 + count // (len(methods) * 300)
    shared = {
        **made_by(),
        "scorer": "0123456789ab",
        "config": {name: 0.5 for name in "abcdefghijklmnopqrstuvwxyz"},
    }
    rows = [
        {
            "run": asdict(run), **shared, "splats": 3000, "truth": {"iou": 0.9, "psnr": 20.0 + number % 7},
            "score": {"score": 90.0 + number % 9, "exact": 50.0, "peak": 99.0, "top1": 0.9, "rank": 1.0, "similarity": 0.7},
            "evaluations": {"forward": 3000, "backward": 0}, "threads": 2, "finished": "2026-01-01T00:00:00+00:00",
            "seconds": {name: 1.0 for name in ("total", "prior", "encode", "render", "backward", "optimizer", "score")},
        }
        for number, run in enumerate(plan(methods, names, seeds, QUALITIES["normal"])[:count])
    ]  # fmt: skip
    folder = base / "bench"
    write_rows(table_path(folder), rows)
    size = table_path(folder).stat().st_size / 1e6
    body = REPORT.format(folder=str(folder))
    print(f"rfgs bench --report, {count} records ({size:.0f} MB): {measured(body)}", flush=True)
    body = APPEND.format(folder=str(folder), row=rows[-1])
    print(f"one record more, in a new process: {measured(body)}", flush=True)


def main(assets: int = 10_000, records: int = 100_000) -> None:
    """Measure and print.

    Args:
        assets: of the batch.
        records: of the table.
    """
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        batch(Path(place), assets)
        table(Path(place), records)
        print(f"all of it: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    tyro.cli(main)
