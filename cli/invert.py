"""`rfgs invert`: the noise from which a model would make a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from rfgs.flat.jobs import InvertMethod

from .flat import OnPhoto


@dataclass
class Described:
    """Of what, and how: flags that come before those that `rfgs edit` has too."""

    prompt: Annotated[str, tyro.conf.arg(metavar="TEXT", help_behavior_hint="(needed)")] = ""
    """What the photograph shows, in quotes."""
    method: InvertMethod = "irfds"
    """How: irfds optimizes the noise; ode follows the model's own path backwards."""


@dataclass
class Invert(OnPhoto, Described):
    """Find the noise from which the model makes a photograph, and make it again from there.

    Writes image.png (the reconstruction), strip.png (photograph and progress), curve.png, noise.pt and run.json, which
    has PSNR and SSIM of the reconstruction and the statistics of the noise.
    """

    def run(self) -> None:
        """Checks, the photograph too, then inverts."""
        from rfgs.flat.jobs import InvertJob, check_words

        from . import load_checks

        of_photo = self.of_photo(self.method, usual_steps=400)
        job = InvertJob(prompt=check_words("--prompt", self.prompt, "a red cube"), **of_photo)
        load_checks.check_photo_job(job, job.model, job.device)
        job = self.found(job)
        self.make(f"invert {self.photo.stem}", f"inverting {job.photo}", job, {"": job.prompt})
