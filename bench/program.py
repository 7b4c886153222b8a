"""What the programs of this folder share: where results go, and errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tyro

from rfgs.errors import UserError

RESULTS = Path(__file__).parent / "results"
# Python starts with this folder alone, and tests/ has a browser to drive.
sys.path.append(str(Path(__file__).parents[1]))

Options = TypeVar("Options")


def start(run: Callable[[Options], None], options: type[Options], description: str | None) -> None:
    """Read the options from the command line and run; what a user can mend is one line and exit code 2."""
    try:
        run(tyro.cli(options, description=description))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
