"""`rfgs settings`: all that can be set, with defaults, in one list."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from rfgs.settings import Setting, declared, shown

from .flags import Text, default

INDENT = 6 * " "


@dataclass
class Settings:
    """List every setting, with its default and what it can be.

    All of them are given as --set NAME=VALUE, those that have a flag of the same name also by that.
    """

    command: Annotated[
        tyro.conf.Positional[Literal["generate", "image", "edit", "invert"]],
        tyro.conf.arg(help_behavior_hint="(default: generate)"),
    ] = "generate"
    """Of which command."""
    guidance: Annotated[Text, default("all of them")] = None
    """Only what runs with this guidance read: its name, or module:Class of your own."""

    def run(self) -> None:
        """Prints them."""
        for title, settings in self._parts().items():
            print(f"{title}\n")
            for one in settings:
                print(described(one))
            print()
        if self.command in ("generate", "image"):
            print(
                "Models have recipes that differ from these defaults; a run's run.json says what was in effect."
            )

    def _parts(self) -> dict[str, Iterable[Setting]]:
        from rfgs.distill.settings import DistillConfig
        from rfgs.flat.jobs import METHODS, config_of
        from rfgs.flat.settings import ParticleConfig
        from rfgs.guidance import find_guide, guides

        if self.command in ("edit", "invert"):
            methods = METHODS if self.command == "edit" else METHODS[:2]
            return {f"With --method {method}": declared(config_of(method)).values() for method in methods}
        config = DistillConfig if self.command == "generate" else ParticleConfig
        chosen = guides() if self.guidance is None else {self.guidance: find_guide(self.guidance)}
        # Those that have the same settings stand together.
        together: dict[Any, list[str]] = {}
        for name, guide in chosen.items():
            if declared(guide.settings):
                together.setdefault(guide.settings, []).append(name)
        shared = [one for one in declared(config).values() if one.name not in ("guidance", "prompt")]
        own = {
            f"With --guidance {' or '.join(names)}": declared(kind).values()
            for kind, names in together.items()
        }
        return {"With every guidance": shared, **own}


def described(one: Setting) -> str:
    """A setting in lines that fit the terminal: name, default, help, and what it can be."""
    usual = one.usual or shown(one.default) or "none"
    width = min(100, shutil.get_terminal_size().columns)
    rule = textwrap.fill(f"  {one.name}  {one.rule()}; default: {usual}", width, subsequent_indent="    ")
    return (
        f"{rule}\n{textwrap.fill(one.help, width, initial_indent=INDENT, subsequent_indent=INDENT)}".rstrip()
    )
