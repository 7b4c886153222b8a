"""What images are asked for by, as flags: those that `rfgs image`, `invert` and `edit` share, and how their runs begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from rfgs.models.loading import Loading

from .flags import AnyWords, Folder, Sets, WholeNumber, by_set, default
from .making import UsesModel
from .meter import Meter

if TYPE_CHECKING:
    from rfgs.flat.jobs import EditJob, EditMethod, ImageJob, InvertJob

J = TypeVar("J", "ImageJob", "InvertJob", "EditJob")


@dataclass
class Flat(UsesModel):
    """The flags of a command whose run makes images."""

    any_words: AnyWords = False
    """Go on where a prompt names a thing that the model has never seen. Small models know few things, and nobody knows what
    they make of others."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Start of all random numbers (ode draws none)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes an NVIDIA GPU if there is one."""
    output: Annotated[Folder, default("runs/COMMAND-WHAT-SEED, numbered if taken")] = None
    """Folder for everything that the run writes."""
    overwrite: bool = False
    """Replace the files of the run that is in the output folder."""
    loading: Loading = Loading()

    def common(self) -> dict[str, Any]:
        """What every job says: model, device, seed and how the model is loaded; checked."""
        from rfgs.models import catalog

        from . import checks

        return {
            "seed": checks.check_seed(self.seed),
            "device": checks.check_device(self.device, renders=False),
            "model": catalog.source_of(catalog.find_backend(self.backend), self.model),
            **asdict(self.loading),
        }

    def found(self, job: J) -> J:
        """The job with files that are there. The last of the checks, since it may ask the model hub."""
        from rfgs.models import catalog

        from . import load_checks

        return load_checks.find_files(job, catalog.find_backend(self.backend), self.model)

    def make(
        self, name: str, doing: str, job: ImageJob | InvertJob | EditJob, prompts: Mapping[str, str]
    ) -> None:
        """Checks the prompts' words, claims a folder, and runs.

        Args:
            name: of the folder, if none is given.
            doing: what is said of the run.
            prompts: by the flags that they were typed with.
        """
        from rfgs.models import distilled
        from rfgs.models.words import Knowledge
        from rfgs.runs import claims

        settings = job.settings
        scale = getattr(job, "guidance_scale", settings.get("guidance_scale"))
        negative = settings.get("negative_prompt", "")
        remark = Knowledge.of(job.model).check(prompts, negative, any_words=self.any_words)
        folder = claims.claim_folder(name, job.seed, self.output, overwrite=self.overwrite, resumable=False)
        with Meter(folder) as meter:
            meter.say(f"{doing} with {job.model} on the {job.device}; writing to {folder}")
            for line in (remark, distilled.remark(job.model, scale)):
                if line:
                    meter.say(line)
            from rfgs.flat import runs
            from rfgs.flat.jobs import EditJob, ImageJob, InvertJob

            work: Any = {ImageJob: runs.make_image, InvertJob: runs.invert_photo, EditJob: runs.edit_photo}
            meter.print(work[type(job)](job, folder, report=meter.report, stop=meter.stop, say=meter.say))


@dataclass(kw_only=True)
class OnPhoto(Flat):
    """The flags of a command that works on a photograph."""

    photo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")]
    """The image file."""
    steps: Annotated[WholeNumber, default("what suits method and model")] = None
    """Number of steps of the method."""
    resolution: Annotated[WholeNumber, default("the model's own")] = None
    """The longer side in pixels, a multiple of 16; the photograph is scaled to it."""
    set: Sets = ()
    """Any other setting of the method, such as --set shift=2; may be given more than once. `rfgs settings invert` and
    `rfgs settings edit` list them all."""

    def of_photo(self, method: EditMethod, usual_steps: int) -> dict[str, Any]:
        """What the job says of the photograph, which is looked at, and of the method; checked."""
        from rfgs.flat import photos
        from rfgs.flat.jobs import check_side, config_of

        from . import checks

        photos.read_photo(self.photo)
        return {
            **self.common(),
            "photo": str(self.photo),
            "method": method,
            "steps": None if self.steps is None else checks.check_count("--steps", self.steps, usual_steps),
            "resolution": None if self.resolution is None else check_side(self.resolution),
            "settings": by_set(self.set, config_of(method)),
        }
