"""The entry point: picks a command, and turns what a user can mend into one line and exit code 2."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated, TextIO, cast, get_args

import tyro

from rfgs import __version__
from rfgs.errors import UserError
from rfgs.models import threads
from rfgs.models.loading import Loading
from rfgs.models.places import expanded

from . import flags, streams
from .batch import Batch
from .bench import Bench
from .doctor import Doctor
from .edit import Edit
from .export import Export
from .generate import Generate
from .image import Image
from .invert import Invert
from .settings import Settings
from .studio import Studio
from .t3bench import T3Bench
from .view import View
from .warmup import Warmup

Command = (
    Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Studio, tyro.conf.subcommand("studio")]
    | Annotated[Batch, tyro.conf.subcommand("batch")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Warmup, tyro.conf.subcommand("warmup")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Image, tyro.conf.subcommand("image")]
    | Annotated[Invert, tyro.conf.subcommand("invert")]
    | Annotated[Edit, tyro.conf.subcommand("edit")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[T3Bench, tyro.conf.subcommand("t3bench")]
    | Annotated[Settings, tyro.conf.subcommand("settings")]
)

_DISK = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "ENAMETOOLONG")
} - {None}
"""What disks and permissions do to programs, which no program can mend."""

DESCRIPTION = """A sentence becomes a 3D asset made of Gaussian splats.

  rfgs generate "a red cube on a blue cylinder"
  rfgs view runs/a-red-cube-on-a-blue-cylinder-0
  rfgs studio

`rfgs COMMAND --help` explains a command and all its flags."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `rfgs` with `arguments` (those of the process by default).

    Exit codes: 0 done, 1 an unexpected error (with its traceback), 2 bad input or a missing resource, 130 interrupted.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        streams.outlive()
        # What is left goes with the process, and Python would look through it several times before: 1.2 s of processor time
        # of the 6.2 of a `generate` of three steps (0.01 s of `--help`).
        atexit.register(gc.freeze)
        _set_threads()
    arguments = [_with_home(argument) for argument in arguments]
    if arguments == ["--version"]:
        print(f"rfgs {__version__}")
        return
    try:
        _check_flags(arguments)
        for kind in [
            Loading,
            *(kind for kind, named in map(get_args, get_args(Command)) if named.name in arguments[:1]),
        ]:
            flags.in_paragraphs(kind)
        with contextlib.redirect_stdout(cast(TextIO, streams.Folded(sys.stdout))):
            command = tyro.cli(
                Command,
                prog="rfgs",
                description=DESCRIPTION,
                # Without a command there is nothing to do but to explain the commands.
                args=arguments or ["--help"],
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
            )
        if isinstance(command, flags.Typed):
            command.typed, command.arguments = flags.typed(arguments), arguments
        command.run()
    except UserError as error:
        print(f"rfgs: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except OSError as error:
        # What has a better message of its own does not come here.
        if error.errno not in _DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"rfgs: {where}{(error.strerror or '').lower()}; mend that, and try again", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("rfgs: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _with_home(argument: str) -> str:
    """A flag with its folder as a shell would give it, which leaves "--output=~/x" as it is."""
    flag, equals, value = argument.partition("=~")
    if flag.startswith("--") and equals and value[:1] in ("", "/", os.sep):
        return f"{flag}={expanded('~' + value)}"
    return argument


def _set_threads() -> None:
    """Sets, for this process, how torch's OpenMP threads wait for work and how many there are; before torch is imported.

    They would spin on the cores that the rasterizer's threads, and other programs, compute on. Asleep at once is bad too: a
    small network has hundreds of short parallel regions. 1000 spins of GNU's runtime, which torch has on Linux, are the
    compromise (docs/speed.md). Whoever sets the policy outside knows better.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # torch counts the cores that this process may run on, but not its container's share of their time.
    if threads.cores() < threads.affinity():
        os.environ.setdefault("OMP_NUM_THREADS", str(threads.cores()))


def _check_flags(arguments: Sequence[str]) -> None:
    """That no flag is typed which is a setting (`rfgs.cli.flags.hint`); all other mistakes are told by tyro."""
    for command in get_args(Command):
        kind, named = get_args(command)
        if arguments[:1] == [named.name]:
            problem = flags.hint(kind, arguments)
            if problem:
                raise UserError(problem)
