"""`rfgs edit`: a photograph under another description."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rfgs.flat.jobs import EditMethod
from rfgs.models.loading import Loading

from .flags import AnyWords, Folder, Number, Sets, Text, WholeNumber, by_set, default
from .meter import Meter


@dataclass
class Edit:
    """Change a photograph by describing what it shows and what it should show.

    Writes image.png (the edit), strip.png (photograph and progress), curve.png and run.json.
    """

    photo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")]
    """The image file."""
    source: Annotated[str, tyro.conf.arg(name="from", metavar="TEXT", help_behavior_hint="(needed)")] = ""
    """What the photograph shows, such as "a red cube"."""
    target: Annotated[str, tyro.conf.arg(name="to", metavar="TEXT", help_behavior_hint="(needed)")] = ""
    """What it should show, such as "a blue cube"."""
    method: EditMethod = "flowedit"
    """How: flowedit goes straight from one to the other; irfds and ode find the photograph's noise first."""
    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "tiny-sd3"
    """The text-to-image model, as in `rfgs generate`."""
    model: Annotated[Text, default("the backend's own")] = None
    """Other weights: a local folder in diffusers' layout, the id of a model on the hub (owner/name), or a single file of SD3,
    SD3.5 or FLUX, which --parts completes."""
    steps: Annotated[WholeNumber, default("what suits method and model")] = None
    """Number of steps, of the inversion or of flowedit."""
    resolution: Annotated[WholeNumber, default("the model's own")] = None
    """The longer side in pixels, a multiple of 16; the photograph is scaled to it."""
    guidance_scale: Annotated[Number, default("what suits method and model")] = None
    """How strongly the new description is enforced, without a unit: 1 is not at all."""
    strength: Annotated[Number, default("0.66")] = None
    """Share of the path that flowedit edits on, above 0: 1 changes most and keeps least of the photograph."""
    set: Sets = ()
    """Any other setting of the method, such as --set shift=2; may be given more than once. `rfgs settings edit` lists
    them all."""
    any_words: AnyWords = False
    """Go on where a description names a thing that the model has never seen. Small models know few things, and
    nobody knows what they make of others."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Start of all random numbers (ode draws none)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes an NVIDIA GPU if there is one."""
    output: Annotated[Folder, default("runs/edit-PHOTO-SEED, numbered if taken")] = None
    """Folder for everything that the run writes."""
    overwrite: bool = False
    """Replace the files of the run that is in the output folder."""
    loading: Loading = Loading()

    def run(self) -> None:
        """Checks, the photograph too, then edits."""
        from rfgs.flat import photos
        from rfgs.flat.jobs import EditJob, check_side, check_strength, check_words, config_of
        from rfgs.models import catalog, distilled
        from rfgs.models.words import Knowledge
        from rfgs.runs import folders

        from . import checks, load_checks

        photos.read_photo(self.photo)
        backend = catalog.find_backend(self.backend)
        job = EditJob(
            photo=str(self.photo),
            source=check_words("--from", self.source, "a red cube"),
            target=check_words("--to", self.target, "a blue cube"),
            method=self.method,
            steps=None if self.steps is None else checks.check_count("--steps", self.steps, 50),
            resolution=None if self.resolution is None else check_side(self.resolution),
            guidance_scale=None
            if self.guidance_scale is None
            else checks.check_guidance_scale(self.guidance_scale),
            strength=check_strength(self.strength, self.method),
            settings=by_set(self.set, config_of(self.method)),
            seed=checks.check_seed(self.seed),
            device=checks.check_device(self.device, renders=False),
            model=catalog.source_of(backend, self.model),
            **asdict(self.loading),
        )
        load_checks.check_photo_job(job, job.model, job.device)
        # Last, since it may ask the model hub.
        job = load_checks.find_files(job, backend, self.model)
        prompts = {"--from": job.source, "--to": job.target}
        remark = Knowledge.of(job.model).check(prompts, any_words=self.any_words)
        name = f"edit {self.photo.stem}"
        folder = folders.claim_folder(name, job.seed, self.output, overwrite=self.overwrite, resumable=False)
        with Meter(folder) as meter:
            meter.say(f"editing {job.photo} with {job.model} on the {job.device}; writing to {folder}")
            for line in (remark, distilled.remark(job.model, job.guidance_scale)):
                if line:
                    meter.say(line)
            from rfgs.flat.runs import edit_photo

            meter.print(edit_photo(job, folder, report=meter.report, stop=meter.stop, say=meter.say))
