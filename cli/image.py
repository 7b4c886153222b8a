"""`rfgs image`: a sentence becomes an image, by distillation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import tyro

from rfgs.flat.settings import ParticleConfig
from rfgs.models.loading import Loading

from .flags import AnyWords, Folder, Sets, Text, Typed, default, flags_of, given
from .meter import Meter

SettingFlags: Any = flags_of(ParticleConfig)


@dataclass
class Image(Typed):
    """Make images from a sentence by distillation: what `generate` does, without the 3D.

    Writes image.png (all images side by side), strip.png (how the first one formed), curve.png and run.json.
    """

    prompt: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROMPT", help_behavior_hint="")] = ""
    """What to make, in quotes, such as "a red cube"."""
    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "tiny-sd3"
    """The text-to-image model to learn from, as in `rfgs generate`."""
    model: Annotated[Text, default("the backend's own")] = None
    """Other weights: a local folder in diffusers' layout, the id of a model on the hub (owner/name), or a single file of SD3,
    SD3.5 or FLUX, which --parts completes."""
    guidance: Annotated[str, tyro.conf.arg(metavar="NAME")] = "rfds-rev"
    """How the model judges the images, as in `rfgs generate`: sds and vsd with diffusion models, the others with
    rectified flows."""
    set: Sets = ()
    """Any other setting, also of the guidance, such as --set lr_latents=0.01; may be given more than once.
    `rfgs settings image` lists them all."""
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
    settings: SettingFlags = SettingFlags()
    """What is not given, the model's recipe says."""
    loading: Loading = Loading()

    def run(self) -> None:
        """Checks, then makes."""
        from rfgs.flat.jobs import ImageJob, check_words
        from rfgs.models import catalog, distilled, weighing
        from rfgs.models.kind import kind_of
        from rfgs.models.sizes import check_resolution
        from rfgs.models.words import Knowledge
        from rfgs.runs import folders, methods

        from . import checks, load_checks

        backend = catalog.find_backend(self.backend)
        job = ImageJob(
            prompt=check_words("PROMPT", self.prompt, "a red cube"),
            guidance=self.guidance,
            settings=given(self, ParticleConfig, self.guidance),
            seed=checks.check_seed(self.seed),
            device=checks.check_device(self.device, renders=False),
            model=catalog.source_of(backend, self.model),
            **asdict(self.loading),
        )
        # The default goes with flows; to look at a guidance takes torch, which a slip of the pen need not wait for.
        if "guidance" in self.typed or kind_of(job.model) != "flow":
            methods.check_pair(job.guidance, job.model)
        small = catalog.is_small(job.model)
        load_checks.check_loading(job, job.device, job.guidance, source=job.model, small=small)
        if job.settings.get("resolution") is not None:
            check_resolution(job.model, job.settings["resolution"])
        if not small and weighing.footprint(job.model):
            load_checks.check_room(
                job,
                job.device,
                job.model,
                views=job.settings.get("particles", ParticleConfig.particles),
                resolution=job.settings.get("resolution") or 512,
                load=methods.load_of(
                    job,
                    job.model,
                    methods.lora_rank(job.guidance, job.settings),
                    encode=job.settings.get("space") == "pixels",
                    decode=True,
                ),
                many="--particles",
            )
        # Last, since it may ask the model hub.
        job = load_checks.find_files(job, backend, self.model)
        knowledge = Knowledge.of(job.model)
        negative = job.settings.get("negative_prompt", "")
        remark = knowledge.check({"": job.prompt}, negative, any_words=self.any_words)
        folder = folders.claim_folder(
            f"image {job.prompt}", job.seed, self.output, overwrite=self.overwrite, resumable=False
        )
        with Meter(folder) as meter:
            meter.say(
                f'making an image of "{job.prompt}" with {job.model} on the {job.device}; writing to {folder}'
            )
            for line in (remark, distilled.remark(job.model, job.settings.get("guidance_scale"))):
                if line:
                    meter.say(line)
            from rfgs.flat.runs import make_image

            meter.print(make_image(job, folder, report=meter.report, stop=meter.stop, say=meter.say))
