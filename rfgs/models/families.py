"""The families of text-to-image models: which adapter loads each, and what is to be known before it is loaded.

A family is one module with an adapter (`rfgs.priors.base.Prior`) and one `Family`, which a `Backend` of
`rfgs.models.catalog.BACKENDS` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Kind = Literal["flow", "diffusion"]


@dataclass(frozen=True)
class Family:
    """Models that one adapter loads."""

    name: str
    kind: Kind
    """Whether they are rectified flows or diffusion models."""
    adapter: str
    """Module and class, "package.module:Class". The class is imported when a model is loaded, and its
    `load(source, *, name, setup)` makes a prior of a folder and a `rfgs.priors.parts.Setup`."""
    pipelines: tuple[str, ...] = ()
    """Names in model_index.json that say that a model is of this family."""
    looks_like_another: bool = False
    """Such a model's files name the pipeline of another family, so that "NAME:" before a folder or hub id has to tell."""
    network: bool = True
    """Whether there is a network: something to compile, to offload, to train a LoRA on, and to have other weights for."""
    can_drop_t5: bool = True
    """Whether prompts are still read where T5 is left out."""
    half: Literal["float16", "bfloat16"] = "float16"
    """Half precision that its activations do not overflow."""
    grain: int = 8
    """Pixels that a side of a picture has to be a multiple of."""
    hub_bytes: Literal[2, 4] = 4
    """Bytes of a parameter in the files that loading fetches."""

    def load_adapter(self) -> Any:
        """The adapter's class, imported now."""
        module, _, name = self.adapter.partition(":")
        return getattr(import_module(module), name)


SD3 = Family(
    "sd3",
    "flow",
    "rfgs.priors.sd3:SD3Prior",
    pipelines=("StableDiffusion3Pipeline",),
    half="bfloat16",
    grain=16,
    hub_bytes=2,
)
FLUX = Family(
    "flux",
    "flow",
    "rfgs.priors.flux:FluxPrior",
    pipelines=("FluxPipeline",),
    can_drop_t5=False,
    half="bfloat16",
    grain=16,
    hub_bytes=2,
)
KLEIN = Family(
    "flux2",
    "flow",
    "rfgs.priors.klein:KleinPrior",
    pipelines=("Flux2KleinPipeline",),
    half="bfloat16",
    grain=16,
    hub_bytes=2,
)
ZIMAGE = Family(
    "z-image",
    "flow",
    "rfgs.priors.zimage:ZImagePrior",
    pipelines=("ZImagePipeline",),
    half="bfloat16",
    grain=16,
    hub_bytes=2,
)
INSTAFLOW = Family(
    "instaflow",
    "flow",
    "rfgs.priors.instaflow:InstaFlowPrior",
    pipelines=("RectifiedFlowPipeline",),  # InstaFlow's own code names it so; its files on the hub do not.
    looks_like_another=True,
)
SD = Family(
    "sd",
    "diffusion",
    "rfgs.priors.sd:StableDiffusionPrior",
    pipelines=("StableDiffusionPipeline",),
)
EXACT = Family("exact", "flow", "rfgs.tinyworld.exact_prior:ExactPrior", network=False)
"""No model but the tiny world itself."""
