"""Flags that commands share: those of all that use a model, and those of `rfgs generate` and `rfgs batch`, which make assets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import tyro

from rfgs.distill.settings import DistillConfig
from rfgs.models.loading import Loading
from rfgs.runs.job import Job, QualityName

from .flags import AnyWords, Folder, Sets, Text, Typed, default, flags_of, given, set_names

SettingFlags: Any = flags_of(DistillConfig, presets=True)


@dataclass
class UsesModel(Typed):
    """The flags of a command that uses a text-to-image model."""

    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "tiny-sd3"
    """The text-to-image model, as in `rfgs generate`."""
    model: Annotated[Text, default("the backend's own")] = None
    """Other weights: a local folder in diffusers' layout, the id of a model on the hub (owner/name), or a single file of SD3,
    SD3.5 or FLUX, which --parts completes."""


@dataclass
class MakesAssets(UsesModel):
    """The flags of a command that makes assets, which say how."""

    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "tiny-sd3"
    """The text-to-image model to learn from: tiny-sd3, tiny-instaflow and tiny-sd are part of rfgs and run anywhere, as
    does tiny-exact, which is no network but their world's own pictures in closed form; flux2-klein, z-image, sd3,
    sd35-medium, sd35-large, instaflow, flux-dev, flux-schnell, sd15, sd21 want a GPU, and some their license accepted on the
    model hub.
    `rfgs doctor` says which would run here."""
    quality: QualityName = "normal"
    """Preset for the numbers of steps, views and splats; a flag given by hand wins over it."""
    guidance: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """How the model judges the views. With rectified flows (tiny-sd3, sd3, ...): rfds is faster; rfds-rev first finds
    the noise that belongs to each view; rfds-vsd trains a LoRA on the views beside. With diffusion models (tiny-sd, sd15,
    sd21): sds, and vsd, which trains a LoRA too. auto is rfds for the small models of rfgs, rfds-rev for other flows, and
    sds for diffusion models. module:Class is one of your own."""
    set: Sets = ()
    """Any other setting of the run or of its guidance, such as --set inner_steps=3; may be given more than once.
    `rfgs settings` lists them all."""
    any_words: AnyWords = False
    """Go on where the prompt names a thing that the model has never seen. Small models know few things, and
    nobody knows what they make of others."""
    start: Annotated[Folder, default("a ball of grey splats")] = None
    """File to start from: splats (.ply, .spz, .sog, .splat, .glb), a mesh or a cloud of points (.obj, .glb, .ply, .stl), or the
    folder of a run. To restyle an object, or to go on with another prompt."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes an NVIDIA GPU if there is one."""
    settings: SettingFlags = SettingFlags()
    """Each wins over the preset of --quality."""
    loading: Loading = Loading()

    @property
    def watched(self) -> bool:
        """Whether a page decodes pictures beside the steps."""
        return False

    @property
    def processes(self) -> int:
        """How many share the views of a step."""
        return 1

    def on(self) -> Literal["cpu", "cuda"]:
        """The device that the assets are made on; UserError where it cannot be used."""
        from . import checks

        return checks.check_device(self.device)

    def job(self, prompt: str, seed: int) -> Job:
        """What is asked for, for one prompt and seed, with all checked that can be without loading anything.

        Raises:
            UserError: something that cannot be.
        """
        from rfgs.models import catalog
        from rfgs.models.sizes import check_resolution
        from rfgs.runs import methods

        from . import checks, load_checks

        backend = catalog.find_backend(self.backend)
        source = catalog.source_of(backend, self.model)
        small = catalog.is_small(source)
        guidance = self.guidance
        if guidance == "auto":
            guidance = methods.usual_guidance(source, small, set_names(self.set))
        preset = Job("", model=source, quality=self.quality).preset()
        job = Job(
            prompt=checks.check_prompt(prompt),
            guidance=guidance,
            quality=self.quality,
            settings=given(self, DistillConfig, guidance, examples=preset),
            seed=checks.check_seed(seed),
            device=self.on(),
            start=checks.check_start(self.start),
            **asdict(self.loading),
        )
        every = {**preset, **job.settings}
        checks.check_share(every["views_per_step"], self.processes)
        if "max_splats" in every:
            checks.check_max_splats(every["max_splats"], every["splats"], every["densify"])
        if self.guidance != "auto":
            methods.check_pair(guidance, source)
        load_checks.check_loading(job, job.device, guidance, source=source, small=small)
        if "resolution" in job.settings:
            check_resolution(source, job.settings["resolution"])
        load_checks.check_job_room(job, source, processes=self.processes, watched=self.watched)
        # Last, since it may ask the model hub.
        return load_checks.find_files(job, backend, self.model)
