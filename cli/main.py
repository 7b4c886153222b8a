"""The entry point: picks a command, and turns what a user can mend into one line and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from rfgs import __version__
from rfgs.errors import UserError

from .bench import Bench
from .doctor import Doctor
from .edit import Edit
from .export import Export
from .generate import Generate
from .image import Image
from .invert import Invert
from .view import View
from .warmup import Warmup

Command = (
    Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Warmup, tyro.conf.subcommand("warmup")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Image, tyro.conf.subcommand("image")]
    | Annotated[Invert, tyro.conf.subcommand("invert")]
    | Annotated[Edit, tyro.conf.subcommand("edit")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
)

DESCRIPTION = """A sentence becomes a 3D asset made of Gaussian splats.

  rfgs generate "a red cube on a blue cylinder"
  rfgs view runs/a-red-cube-on-a-blue-cylinder-0

`rfgs COMMAND --help` explains a command and all its flags."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `rfgs` with `arguments` (those of the process by default).

    Exit codes: 0 done, 1 an unexpected error (with its traceback), 2 bad input or a missing resource, 130 interrupted.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        _let_waiting_threads_sleep()
    arguments = list(arguments)
    if arguments == ["--version"]:
        print(f"rfgs {__version__}")
        return
    try:
        command = tyro.cli(
            Command,
            prog="rfgs",
            description=DESCRIPTION,
            # Without a command there is nothing to do but to explain the commands.
            args=arguments or ["--help"],
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        )
        command.run()
    except UserError as error:
        print(f"rfgs: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("rfgs: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _let_waiting_threads_sleep() -> None:
    """Sets, for this process, how torch's OpenMP threads wait for work. To be called before torch is imported, which reads it.

    They would spin on the cores that the rasterizer's threads, and other programs, compute on. Asleep at once is bad too: a
    small network has hundreds of short parallel regions. 1000 spins of GNU's runtime, which torch has on Linux, are the
    compromise (docs/speed.md). Whoever sets the policy outside knows better.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
