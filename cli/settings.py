"""`rfgs settings`: all that can be set, with defaults, in one list."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from rfgs.errors import UserError
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
    backend: Annotated[Text, default("what holds where no model says otherwise")] = None
    """With the values that runs of this model begin with, which its recipe says; without a guidance, those of the usual one.
    The numbers of steps, views and splats are those of --quality normal."""

    def run(self) -> None:
        """Prints them."""
        recipe = self._recipe()
        for title, settings in self._parts(None if recipe is None else recipe.guidance).items():
            print(f"{title}\n")
            for one in settings:
                print(described(one, recipe))
            print()
        if self.command in ("generate", "image") and recipe is None:
            print(
                "Models have recipes that differ from these defaults; a run's run.json says what was in effect."
            )

    def _recipe(self) -> Any:
        """The settings that a run of `backend` begins with; None where none is named."""
        if self.backend is None:
            return None
        if self.command in ("edit", "invert"):
            raise UserError(
                f"--backend: has no recipe for `rfgs {self.command}` that can be listed; leave it out"
            )
        from rfgs.distill.recipes import config_for
        from rfgs.flat.recipes import particle_recipe
        from rfgs.models.catalog import find_backend, source_of
        from rfgs.priors import unloaded
        from rfgs.priors.base import is_small
        from rfgs.runs.job import Job
        from rfgs.runs.methods import check_pair, usual_guidance

        source = source_of(find_backend(self.backend))
        prior = unloaded(source)
        guidance = self.guidance or usual_guidance(source, is_small(prior))
        check_pair(guidance, source)
        if self.command == "image":
            return particle_recipe(prior, guidance)
        config: Any = config_for(prior, guidance, Job("", model=source).preset())
        config.resolution = None  # "The model's own", which its files say.
        return config

    def _parts(self, guidance: str | None) -> dict[str, Iterable[Setting]]:
        from rfgs.distill.settings import DistillConfig
        from rfgs.flat.jobs import METHODS, config_of
        from rfgs.flat.settings import ParticleConfig
        from rfgs.guidance import find_guide, guides

        if self.command in ("edit", "invert"):
            methods = METHODS if self.command == "edit" else METHODS[:2]
            return {f"With --method {method}": declared(config_of(method)).values() for method in methods}
        config = DistillConfig if self.command == "generate" else ParticleConfig
        guidance = guidance or self.guidance
        chosen = guides() if guidance is None else {guidance: find_guide(guidance)}
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


def described(one: Setting, recipe: Any = None) -> str:
    """A setting in lines that fit the terminal: name, what it can be, its default or what it is in `recipe`, and help."""
    if recipe is None:
        word, usual = "default", one.usual or shown(one.default) or "none"
    else:
        from rfgs.guidance import value_of

        value = value_of(recipe, one.name)
        word, usual = "begins with", one.usual or "none" if value is None else shown(value) or '""'
    width = min(100, shutil.get_terminal_size().columns)
    rule = textwrap.fill(f"  {one.name}  {one.rule()}; {word}: {usual}", width, subsequent_indent="    ")
    return (
        f"{rule}\n{textwrap.fill(one.help, width, initial_indent=INDENT, subsequent_indent=INDENT)}".rstrip()
    )
