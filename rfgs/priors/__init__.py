"""Text-to-image models behind two protocols: `load_prior("tiny-sd3")`, or a folder or hub id in diffusers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast, overload

import torch

from rfgs.errors import UserError
from rfgs.priors.base import (
    Condition,
    DiffusionPrior,
    Prior,
    TextToImage,
    Trainable,
    guided_epsilon,
    guided_velocity,
    unknown_words,
)
from rfgs.priors.engine import Engine, attach
from rfgs.priors.parts import Setup, about, read_json, whole_model
from rfgs.priors.parts import offload as offload_weights

__all__ = [
    "Condition",
    "DiffusionPrior",
    "Prior",
    "TextToImage",
    "Trainable",
    "guided_epsilon",
    "guided_velocity",
    "load_prior",
    "unknown_words",
]


@overload
def load_prior(
    name_or_folder: str | Path,
    kind: Literal["flow"] = "flow",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    t5: Literal["keep", "8bit", "drop"] = "keep",
    offload: bool = False,
    compile: bool = False,
    engine: Engine = "auto",
) -> Prior: ...
@overload
def load_prior(
    name_or_folder: str | Path,
    kind: Literal["diffusion"],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    t5: Literal["keep", "8bit", "drop"] = "keep",
    offload: bool = False,
    compile: bool = False,
    engine: Engine = "auto",
) -> DiffusionPrior: ...
@overload
def load_prior(
    name_or_folder: str | Path,
    kind: None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    t5: Literal["keep", "8bit", "drop"] = "keep",
    offload: bool = False,
    compile: bool = False,
    engine: Engine = "auto",
) -> Prior | DiffusionPrior: ...
def load_prior(
    name_or_folder: str | Path,
    kind: Literal["flow", "diffusion"] | None = "flow",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    t5: Literal["keep", "8bit", "drop"] = "keep",
    offload: bool = False,
    compile: bool = False,
    engine: Engine = "auto",
) -> Prior | DiffusionPrior:
    """Load a prior.

    Args:
        name_or_folder: a backend's name (`rfgs.backends`), a folder in diffusers' layout, or a hub id ("owner/name").
            InstaFlow's files look like Stable Diffusion's: "instaflow:FOLDER" says what they are.
        kind: what is wanted, a rectified flow or a diffusion model; None takes either.
        dtype: of the network's weights; None takes float32 for small models and on the CPU, half precision on CUDA.
        t5: "drop" leaves T5 out where a model can do without it (Stable Diffusion 3), which saves 9.5 GB to download and
            load, and reads prompts less closely; "8bit" halves its memory with bitsandbytes, which wants a GPU.
        offload: leave all weights in the CPU's memory and bring each layer's to `device` when it computes: hardly any GPU
            memory for weights, and each evaluation waits for all of them. No LoRA can be trained then.
        compile: have `torch.compile` make the network's evaluations faster; the first ones take minutes.
        engine: what evaluates the network on a CPU, see `rfgs.priors.engine`.

    Raises:
        UserError: nothing there, a model of another kind, a pipeline class that has no adapter, or too little memory.
    """
    from rfgs.backends import locate

    name = str(name_or_folder)
    place = locate(name)
    source = place.source
    family = place.family or _family(name, source)
    found = "diffusion" if family == "sd" else "flow"
    if kind is not None and kind != found:
        raise UserError(f"{name}: {_OTHER_KIND[found]}")
    device = torch.device(device)
    dtype = dtype or _dtype(family, device, small=bool(about(source)))
    setup = Setup(device, dtype, t5, offload)
    prior = _load(name, source, family, setup, place.style)
    if family == "exact":
        return cast(Prior, prior)  # It has no network.
    if offload:
        for module in (prior.network, prior.autoencoder.module):
            offload_weights(module, device)
    if compile:
        prior.network.compile()
    elif device.type == "cpu":
        attach(prior.network, engine)
    return cast(Prior | DiffusionPrior, prior)


def _load(name: str, source: str, family: str, setup: Setup, style: tuple[str, str] | None) -> Any:
    if family == "sd":
        from rfgs.priors.sd import StableDiffusionPrior

        return StableDiffusionPrior.load(source, name=name, setup=setup)
    if family == "instaflow":
        from rfgs.priors.instaflow import InstaFlowPrior

        prior = InstaFlowPrior.load(source, name=name, setup=setup)
        if style:
            prior.add_style(*style)
        return prior
    if family == "exact":
        from rfgs.priors.exact import ExactPrior

        return ExactPrior.load(source, name=name, setup=setup)
    if family == "flux":
        if setup.t5 == "drop":
            raise UserError(f"{name}: FLUX reads prompts with T5 alone; leave --t5 drop out")
        from rfgs.priors.flux import FluxPrior

        return FluxPrior.load(source, name=name, setup=setup)
    from rfgs.priors.sd3 import SD3Prior

    return SD3Prior.load(source, name=name, setup=setup)


_OTHER_KIND = {
    "diffusion": "a diffusion model, which only the guidances sds and vsd can use; for all others give a "
    "rectified flow such as sd3 or instaflow",
    "flow": "a rectified flow, and a diffusion model is wanted, such as tiny-sd or sd15",
}

_FAMILIES = {
    "StableDiffusion3Pipeline": "sd3",
    "StableDiffusionPipeline": "sd",
    "FluxPipeline": "flux",
    "RectifiedFlowPipeline": "instaflow",  # InstaFlow's own code names it so.
}


def _family(name: str, source: str) -> str:
    """What a model's files say it is."""
    with whole_model(name, "text-to-image"):
        pipeline = read_json(source, "model_index.json").get("_class_name", "an unknown kind of model")
    known = about(source).get("family") or _FAMILIES.get(pipeline)
    if known is None:
        raise UserError(
            f"{name}: is a {pipeline}, which has no adapter yet; give a folder or hub id of a "
            + " or ".join(_FAMILIES)
        )
    return known


def _dtype(family: str, device: torch.device, *, small: bool) -> torch.dtype:
    """Half precision where a big model runs on a GPU: bfloat16 for transformers, whose activations can overflow float16."""
    if small or device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if family in ("sd3", "flux") and torch.cuda.is_bf16_supported() else torch.float16
