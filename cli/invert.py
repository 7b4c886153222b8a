"""`rfgs invert`: the noise from which a model would make a photograph."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rfgs.flat.jobs import InvertMethod
from rfgs.models.loading import Loading

from .flags import AnyWords, Folder, Sets, Text, WholeNumber, by_set, default
from .meter import Meter


@dataclass
class Invert:
    """Find the noise from which the model makes a photograph, and make it again from there.

    Writes image.png (the reconstruction), strip.png (photograph and progress), curve.png, noise.pt and run.json, which
    has PSNR and SSIM of the reconstruction and the statistics of the noise.
    """

    photo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")]
    """The image file."""
    prompt: Annotated[str, tyro.conf.arg(metavar="TEXT", help_behavior_hint="(needed)")] = ""
    """What the photograph shows, in quotes."""
    method: InvertMethod = "irfds"
    """How: irfds optimizes the noise; ode follows the model's own path backwards."""
    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "tiny-sd3"
    """The text-to-image model, as in `rfgs generate`."""
    model: Annotated[Text, default("the backend's own")] = None
    """Other weights: a local folder in diffusers' layout, the id of a model on the hub (owner/name), or a single file of SD3,
    SD3.5 or FLUX, which --parts completes."""
    steps: Annotated[WholeNumber, default("what suits method and model")] = None
    """Number of steps of the inversion."""
    resolution: Annotated[WholeNumber, default("the model's own")] = None
    """The longer side in pixels, a multiple of 16; the photograph is scaled to it."""
    set: Sets = ()
    """Any other setting of the method, such as --set shift=2; may be given more than once. `rfgs settings invert` lists
    them all."""
    any_words: AnyWords = False
    """Go on where the description names a thing that the model has never seen. Small models know few things, and
    nobody knows what they make of others."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Start of all random numbers (ode draws none)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes an NVIDIA GPU if there is one."""
    output: Annotated[Folder, default("runs/invert-PHOTO-SEED, numbered if taken")] = None
    """Folder for everything that the run writes."""
    overwrite: bool = False
    """Replace the files of the run that is in the output folder."""
    loading: Loading = Loading()

    def run(self) -> None:
        """Checks, the photograph too, then inverts."""
        from rfgs.flat import photos
        from rfgs.flat.jobs import InvertJob, check_side, check_words, config_of
        from rfgs.models import catalog
        from rfgs.models.words import Knowledge
        from rfgs.runs import folders

        from . import checks, load_checks

        photos.read_photo(self.photo)
        backend = catalog.find_backend(self.backend)
        job = InvertJob(
            photo=str(self.photo),
            prompt=check_words("--prompt", self.prompt, "a red cube"),
            method=self.method,
            steps=None if self.steps is None else checks.check_count("--steps", self.steps, 400),
            resolution=None if self.resolution is None else check_side(self.resolution),
            settings=by_set(self.set, config_of(self.method)),
            seed=checks.check_seed(self.seed),
            device=checks.check_device(self.device, renders=False),
            model=catalog.source_of(backend, self.model),
            **asdict(self.loading),
        )
        load_checks.check_photo_job(job, job.model, job.device)
        # Last, since it may ask the model hub.
        job = load_checks.find_files(job, backend, self.model)
        remark = Knowledge.of(job.model).check({"": job.prompt}, any_words=self.any_words)
        name = f"invert {self.photo.stem}"
        folder = folders.claim_folder(name, job.seed, self.output, overwrite=self.overwrite, resumable=False)
        with Meter(folder) as meter:
            meter.say(f"inverting {job.photo} with {job.model} on the {job.device}; writing to {folder}")
            if remark:
                meter.say(remark)
            from rfgs.flat.runs import invert_photo

            meter.print(invert_photo(job, folder, report=meter.report, stop=meter.stop, say=meter.say))
