"""`rfgs edit`: a photograph under another description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from rfgs.flat.jobs import EditMethod

from .flags import Number, default
from .flat import OnPhoto


@dataclass
class Described:
    """From what to what, and how: flags that come before those that `rfgs invert` has too."""

    source: Annotated[str, tyro.conf.arg(name="from", metavar="TEXT", help_behavior_hint="(needed)")] = ""
    """What the photograph shows, such as "a red cube"."""
    target: Annotated[str, tyro.conf.arg(name="to", metavar="TEXT", help_behavior_hint="(needed)")] = ""
    """What it should show, such as "a blue cube"."""
    method: EditMethod = "flowedit"
    """How: flowedit goes straight from one to the other; irfds and ode find the photograph's noise first."""
    guidance_scale: Annotated[Number, default("what suits method and model")] = None
    """How strongly the new description is enforced, without a unit: 1 is not at all."""
    strength: Annotated[Number, default("0.66")] = None
    """Share of the path that flowedit edits on, above 0: 1 changes most and keeps least of the photograph."""


@dataclass
class Edit(OnPhoto, Described):
    """Change a photograph by describing what it shows and what it should show.

    Writes image.png (the edit), strip.png (photograph and progress), curve.png and run.json.
    """

    def run(self) -> None:
        """Checks, the photograph too, then edits."""
        from rfgs.flat.jobs import EditJob, check_strength, check_words

        from . import checks, load_checks

        scale = self.guidance_scale
        job = EditJob(
            source=check_words("--from", self.source, "a red cube"),
            target=check_words("--to", self.target, "a blue cube"),
            guidance_scale=None if scale is None else checks.check_guidance_scale(scale),
            strength=check_strength(self.strength, self.method),
            **self.of_photo(self.method, usual_steps=50),
        )
        load_checks.check_photo_job(job, job.model, job.device)
        job = self.found(job)
        prompts = {"--from": job.source, "--to": job.target}
        self.make(f"edit {self.photo.stem}", f"editing {job.photo}", job, prompts)
