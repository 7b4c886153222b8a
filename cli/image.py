"""`rfgs image`: a sentence becomes an image, by distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from rfgs.flat.settings import ParticleConfig

from .flags import Sets, flags_of, given
from .flat import Flat

SettingFlags: Any = flags_of(ParticleConfig)


@dataclass
class Image(Flat):
    """Make images from a sentence by distillation: what `generate` does, without the 3D.

    Writes image.png (all images side by side), strip.png (how the first one formed), curve.png and run.json.
    """

    prompt: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROMPT", help_behavior_hint="")] = ""
    """What to make, in quotes, such as "a red cube"."""
    guidance: Annotated[str, tyro.conf.arg(metavar="NAME")] = "rfds-rev"
    """How the model judges the images, as in `rfgs generate`: sds and vsd with diffusion models, the others with
    rectified flows."""
    set: Sets = ()
    """Any other setting, also of the guidance, such as --set lr_latents=0.01; may be given more than once.
    `rfgs settings image` lists them all."""
    settings: SettingFlags = SettingFlags()
    """What is not given, the model's recipe says."""

    def run(self) -> None:
        """Checks, then makes."""
        from rfgs.flat.jobs import ImageJob, check_words
        from rfgs.models import catalog, weighing
        from rfgs.models.kind import kind_of
        from rfgs.models.sizes import check_resolution
        from rfgs.runs import methods

        from . import load_checks

        job = ImageJob(
            prompt=check_words("PROMPT", self.prompt, "a red cube"),
            guidance=self.guidance,
            settings=given(self, ParticleConfig, self.guidance),
            **self.common(),
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
        job = self.found(job)
        self.make(f"image {job.prompt}", f'making an image of "{job.prompt}"', job, {"": job.prompt})
