"""`rfgs generate` on disks that fill up: what it says, what it leaves behind, and whether it can be finished.

    sudo python bench/full_disk.py --levels 20      # Linux, as root: it mounts disks in memory (tmpfs) of as many sizes
    unshare -rm python bench/full_disk.py           # or in a namespace of one's own

The sizes go from next to nothing to what a run takes. Each run is to end well, or with exit code 2 where nothing has room at all,
and never in a traceback; to say no more than that something could not be written, and where the asset is; and to leave no file
under its name that is not whole, and none under another. Then the disk is made large and the run finished, which has to come to
the same bytes as a run that never lacked anything. In every second run the system's temporary folder is on the same disk.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import forked
import tyro
from PIL import Image

from rfgs.errors import UserError
from rfgs.export import read_ply
from rfgs.runs.checkpoints import load_checkpoint
from rfgs.runs.folders import CHECKPOINT, CHECKPOINT_BEFORE

ABOUT_A_DISK = ("cannot be written", "takes no more", "no space left")


@contextmanager
def disk(kilobytes: int) -> Iterator[Path]:
    """A disk of that size."""
    with tempfile.TemporaryDirectory() as place:
        _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"mount: {done.stderr.strip()}; run this as root, or in `unshare -rm`")


def faults(folder: Path) -> list[str]:
    """What a run may not leave: files that are not whole, and temporary ones."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name in (".lock", ".holder"):
            continue
        try:
            if path.name.startswith("."):
                found.append(f"{path.name} stays")
            elif path.suffix == ".ply":
                read_ply(path)
            elif path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".mp4" and not _is_whole(path.read_bytes()):
                found.append(f"{path.name} is cut short")
        except (OSError, ValueError, SyntaxError) as error:
            found.append(f"{path.name}: {error}")
    said: list[str] = []
    if any((folder / name).exists() for name in (CHECKPOINT, CHECKPOINT_BEFORE)):
        load_checkpoint(folder, said.append)
    return found + said


def _is_whole(video: bytes) -> bool:
    """Whether an MP4 is a row of boxes that ends where the file does, with an index and pictures."""
    position, names = 0, set()
    while position + 8 <= len(video):
        size = int.from_bytes(video[position : position + 4], "big")
        names.add(video[position + 4 : position + 8])
        position += max(size, 8)
    return position == len(video) and {b"moov", b"mdat"} <= names


def tried(kilobytes: int, whole: Path, log: Path, *, temporary_too: bool) -> dict:
    """One run on a disk of that size, and its end on a larger one."""
    with disk(kilobytes) as place:
        folder = place / "run"
        (place / "tmp").mkdir()

        def here() -> None:
            tempfile.tempdir = str(place / "tmp" if temporary_too else log.parent)

        ended = forked.command(["generate", *forked.DRAFT, "--output", str(folder)], log, here)
        said = [line for line in ended.text.splitlines() if any(words in line for words in ABOUT_A_DISK)]
        problems = faults(folder) if folder.exists() else []
        problems += ["a traceback"] * ended.traceback
        problems += [f"exit code {ended.code}"] * (ended.code not in (0, 2))
        problems += [f"{len(said)} lines about the disk"] * (
            not 0 <= len(said) <= 2 or ended.code == 2 and not said
        )
        _mount("-o", "remount,size=256m", str(place))
        begun = (folder / "run.json").exists()
        again = (
            ["--resume", str(folder), "--no-viewer"] if begun else [*forked.DRAFT, "--output", str(folder)]
        )
        if begun and not said:
            resumed = ended  # It had room.
        else:
            resumed = forked.command(["generate", *again], log)
        problems += [f"cannot be finished: {resumed.text[-300:]}"] * (resumed.code != 0)
        problems += [
            f"other bytes in {name}" for name in forked.same_files(folder, whole) if name.startswith("splats")
        ]
    return {"code": ended.code, "said": said, "problems": problems}


def main(levels: int = 20) -> None:
    """Run and print; exit code 1 if there is a problem.

    Args:
        levels: sizes of disks.
    """
    with tempfile.TemporaryDirectory() as place:
        whole, log = Path(place) / "whole", Path(place) / "log"
        forked.warm_up(whole)
        takes = sum(4 * -(-path.stat().st_size // 4096) for path in whole.rglob("*") if path.is_file())
        print(f"a run takes {takes} kB", flush=True)
        bad = 0
        for level in range(levels):
            kilobytes = 16 + round(takes * 1.2 * level / max(1, levels - 1) / 4) * 4
            row = tried(kilobytes, whole, log, temporary_too=level % 2 == 1)
            bad += bool(row["problems"])
            print(
                f"{kilobytes:5} kB: exit code {row['code']}, {'; '.join(row['problems']) or 'well'}",
                flush=True,
            )
            for line in row["said"]:
                print(f"          {line}", flush=True)
    print(f"{levels} disks, {bad} with problems")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
