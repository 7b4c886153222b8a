"""A run's folder is claimed for a new run, given up by one that came to nothing, and removed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rfgs.errors import UserError
from rfgs.runs.folders import (
    CHECKPOINT,
    CHECKPOINT_BEFORE,
    PREVIEWS,
    PROBE,
    RECORD,
    SNAPSHOTS,
    files_of_a_run,
    leftovers,
    read_record,
    slug,
)
from rfgs.runs.holding import HOLDER, LOCK, Held, check_free, hold, release


def claim_folder(
    prompt: str, seed: int, output: Path | None = None, *, overwrite: bool = False, resumable: bool = True
) -> Path:
    """Creates the folder of a new run, makes sure that no other run is in it, and holds it for this process.

    Args:
        output: the folder; None takes runs/<prompt>-<seed>, with a number behind it if that is taken.
        resumable: whether the command has a --resume, for its error messages.
        overwrite: remove an earlier run's files from the folder. Files that no run writes are left alone.

    Raises:
        UserError: the folder is not empty (and may not be overwritten), is a file, cannot be written, or another process
            is at work in it.
    """
    folder = Path("runs") if output is None else output
    try:
        if output is None:
            folder = _free_folder(f"{slug(prompt)}-{seed}", overwrite)
        else:
            if folder.suffix.lower() in (".ply", ".splat", ".glb", ".mp4"):
                raise UserError(
                    f"--output {folder}: has to be a folder, not a file; try --output {folder.with_suffix('')}"
                )
            if folder.exists() and not folder.is_dir():
                raise UserError(f"--output {folder}: is a file; choose a folder")
            if not _taken(folder, overwrite):
                holds = "already holds a run" if (folder / RECORD).exists() else "is not empty"
                remedy = "replace what a run writes with --overwrite"
                remedy = (
                    f"{remedy}, or go on with an unfinished run with --resume"
                    if resumable
                    else f"or {remedy}"
                )
                raise UserError(f"--output {folder}: {holds}; choose another folder, {remedy}")
        for path in files_of_a_run(folder):
            path.unlink(missing_ok=True)
        # The one sure test of whether files can be written is to write one: permissions do not bind everybody.
        probe = folder / PROBE
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"--output {folder}: cannot be written ({reason}); choose another folder with --output"
        ) from error
    return folder


def leave(folder: Path) -> None:
    """Removes the folder of a run that came to nothing; one with files in it stays."""
    with suppress(OSError, UserError):
        begun = any((folder / name).exists() for name in (CHECKPOINT, CHECKPOINT_BEFORE))
        # On a full disk the record may be older than the checkpoint.
        if not begun and (folder / RECORD).exists() and read_record(folder).get("state") == "starting":
            (folder / RECORD).unlink()
        if not _in_use(folder):
            for name in (LOCK, HOLDER):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    release(folder)


def remove_run(folder: Path) -> int:
    """Removes a run: the files that runs write, and then its folder. Other files stay, and so does a folder that has some.

    Returns:
        How many those are.

    Raises:
        UserError: a process is at work in the folder, or files cannot be removed.
    """
    try:
        hold(folder)
        for path in files_of_a_run(folder):
            path.unlink(missing_ok=True)
        for name in (PREVIEWS, SNAPSHOTS):
            with suppress(OSError):
                (folder / name).rmdir()
        left = [path for path in folder.iterdir() if path.name not in (LOCK, HOLDER)]
        if not left:
            for name in (LOCK, HOLDER):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    except OSError as error:
        raise UserError(f"{folder}: cannot be removed ({(error.strerror or str(error)).lower()})") from error
    finally:
        release(folder)
    return len(left)


def _free_folder(name: str, overwrite: bool) -> Path:
    """A folder in runs/ that was taken for this process, with a number behind its name if that is in use."""
    folder, number = Path("runs") / name, 2
    while True:
        try:
            if _taken(folder, overwrite):
                return folder
        except Held:
            if overwrite:
                raise
        folder, number = folder.with_name(f"{name}-{number}"), number + 1


def _taken(folder: Path, overwrite: bool) -> bool:
    """Whether a folder, which is made if there is none, is now this process's, and free for a new run."""
    if folder.exists() and not folder.is_dir():
        return False
    if not overwrite and _in_use(folder):
        # Who is at work in it is worth more than that it is not empty.
        if (folder / LOCK).exists():
            check_free(folder)
        return False
    folder.mkdir(parents=True, exist_ok=True)
    hold(folder)
    if not overwrite and _in_use(folder):  # Since it was looked at, another process may have come and gone.
        release(folder)
        return False
    return True


def _in_use(folder: Path) -> bool:
    """Whether there is something in a folder that somebody may miss."""
    if not folder.is_dir():
        return False
    passing = {LOCK, HOLDER, *(path.name for path in leftovers(folder))}
    return any(path.name not in passing for path in folder.iterdir())
