"""Where things are on this machine: folders as people write them, and the one for what is made once and kept."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path


def expanded(source: str | Path) -> Path:
    """A folder as it was typed, with "~" as the user's own; as it stands where nobody has that."""
    return Path(os.path.expanduser(source))


def is_folder(path: Path) -> bool:
    """Whether a folder is there; nothing of a name that no file system takes is."""
    try:
        return path.is_dir()
    except OSError:
        return False


def cache_folder() -> Path:
    """RFGS_CACHE, or rfgs in the user's folder for caches, or in the system's temporary one where there is no such folder.

    It may not exist yet, or not be written to, which ends nothing. What is in it is run and believed: where somebody else
    can write to it, which is said in a line, a folder of this process's own stands in for it.
    """
    own = os.environ.get("RFGS_CACHE")
    return _vetted(
        expanded(own) if own else _usual(os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~"))
    )


@functools.cache
def _usual(caches: str | None, home: str) -> Path:
    place = Path(caches) if caches else Path(home) / ".cache"
    if place.is_absolute():
        try:
            (place / "rfgs").mkdir(mode=0o700, parents=True, exist_ok=True)
            return place / "rfgs"
        except OSError:
            pass  # As for users without a home, such as those of `docker run --user`.
    return Path(tempfile.gettempdir()) / f"rfgs-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


@functools.cache
def _vetted(place: Path) -> Path:
    problem = others_can_write(place)
    if problem is None:
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            pass
        problem = others_can_write(place)  # Somebody may have been faster.
    if problem is None:
        return place
    print(
        f"rfgs: the cache in {place} is not used, since {problem}; name another folder in RFGS_CACHE",
        file=sys.stderr,
        flush=True,
    )
    own = tempfile.mkdtemp(prefix="rfgs-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return Path(own)


def others_can_write(path: Path) -> str | None:
    """How somebody other than this user and root can change a file or folder, in words; None if nobody can."""
    if not hasattr(os, "getuid"):
        return None
    try:
        about = path.stat()
    except OSError:
        return None
    if about.st_uid not in (os.getuid(), 0):
        return f"it belongs to {_name_of(about.st_uid)}"
    if about.st_mode & stat.S_IWOTH:
        return "everybody can write to it"
    if about.st_mode & stat.S_IWGRP and not _is_private(about.st_gid):
        return "its group can write to it"
    return None


def _name_of(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _is_private(group: int) -> bool:
    """Whether a group has this user's name and nobody else in it, as the one that many systems give to each user."""
    import grp
    import pwd

    try:
        user, members = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return members.gr_name == user and set(members.gr_mem) <= {user}
