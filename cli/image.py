"""`rfgs image`: a sentence becomes an image, by distillation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

import tyro

from rfgs.runs.job import Guidance

from .flags import (
    AnyWords,
    Details,
    Folder,
    LoadFlags,
    Loads,
    MethodFlags,
    Number,
    Text,
    WholeNumber,
    default,
)
from .meter import Meter


@dataclass
class Image:
    """Make images from a sentence by distillation: what `generate` does, without the 3D.

    Writes image.png (all images side by side), strip.png (how the first one formed), curve.png and run.json.
    """

    prompt: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROMPT", help_behavior_hint="")] = ""
    """What to make, in quotes, such as "a red cube"."""
    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "tiny-sd3"
    """The text-to-image model to learn from, as in `rfgs generate`."""
    model: Annotated[Text, default("the backend's own")] = None
    """Other weights: a local folder in diffusers' layout, or the id of a model on the hub (owner/name)."""
    guidance: Guidance = "rfds-rev"
    """How the model judges the images, as in `rfgs generate`: sds and vsd with diffusion models, the others with
    rectified flows."""
    space: Literal["latents", "pixels"] = "latents"
    """What is optimised: the model's latents, or pixels through its image encoder, which is slower."""
    steps: Annotated[WholeNumber, default("what suits the model")] = None
    """Number of optimisation steps."""
    particles: Annotated[int, tyro.conf.arg(metavar="N")] = 4
    """Images made at the same time, each from a start of its own."""
    resolution: Annotated[WholeNumber, default("the model's own")] = None
    """Width and height in pixels, a multiple of 16."""
    guidance_scale: Annotated[Number, default("what suits the model")] = None
    """How strongly the prompt is enforced, without a unit: 1 is not at all."""
    negative_prompt: Annotated[str, tyro.conf.arg(metavar="TEXT", help_behavior_hint="(default: none)")] = ""
    """What the images should not look like."""
    any_words: AnyWords = False
    """Go on where the prompt names a thing that the model has never seen. Small models know few things, and
    nobody knows what they make of others."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Start of all random numbers."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes an NVIDIA GPU if there is one."""
    output: Annotated[Folder, default("runs/image-PROMPT-SEED, numbered if taken")] = None
    """Folder for everything that the run writes."""
    overwrite: bool = False
    """Replace the files of the run that is in the output folder."""
    details: Details = MethodFlags()
    loading: Loads = LoadFlags()

    def run(self) -> None:
        """Checks, then makes."""
        from rfgs.flat.jobs import ImageJob, check_side, check_words
        from rfgs.models import catalogue
        from rfgs.models.words import Knowledge
        from rfgs.runs import folders, methods

        from . import checks, load_checks

        backend = catalogue.find_backend(self.backend)
        job = ImageJob(
            prompt=check_words("PROMPT", self.prompt, "a red cube"),
            guidance=self.guidance,
            space=self.space,
            steps=None if self.steps is None else checks.check_count("--steps", self.steps, 400),
            particles=checks.check_count("--particles", self.particles, 4),
            resolution=None if self.resolution is None else check_side(self.resolution),
            guidance_scale=None
            if self.guidance_scale is None
            else checks.check_guidance_scale(self.guidance_scale),
            negative_prompt=self.negative_prompt,
            seed=checks.check_seed(self.seed),
            device=checks.check_device(self.device),
            model=catalogue.source_of(backend, self.model),
            **asdict(self.details),
            **asdict(self.loading),
        )
        methods.check_method(job)
        methods.check_pair(job.guidance, job.model)
        small = catalogue.is_small(job.model)
        load_checks.check_loading(job, job.device, job.guidance, source=job.model, small=small)
        # Last, since it may ask the model hub.
        job = replace(job, model=catalogue.find_model(backend, self.model))
        knowledge = Knowledge.of(job.model)
        remark = knowledge.check({"": job.prompt}, job.negative_prompt, any_words=self.any_words)
        folder = folders.claim_folder(
            f"image {job.prompt}", job.seed, self.output, overwrite=self.overwrite, resumable=False
        )
        with Meter(folder) as meter:
            meter.say(
                f'making an image of "{job.prompt}" with {job.model} on the {job.device}; writing to {folder}'
            )
            if remark:
                meter.say(remark)
            from rfgs.flat.runs import make_image

            meter.print(make_image(job, folder, report=meter.report, stop=meter.stop))
