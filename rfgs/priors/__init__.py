"""Text-to-image models behind one protocol: `load_prior("tiny-sd3")`, or a folder or hub id in diffusers' layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch

from rfgs.errors import UserError
from rfgs.models import single_file
from rfgs.models.about import INDEX, about
from rfgs.models.available import check_parts
from rfgs.models.card import check_card, computes_bfloat16
from rfgs.models.catalog import families, locate, no_adapter, parts_of_file
from rfgs.models.distilled import is_distilled
from rfgs.models.families import Family
from rfgs.models.kind import family_of
from rfgs.models.libraries import check_libraries, check_nf4, quantized_parts
from rfgs.models.lora_file import check_lora
from rfgs.models.snapshot import folder_of, index_of
from rfgs.priors.base import Condition, Prior, Recipe, Trainable, guided, unknown_words
from rfgs.priors.engine import Engine, attach, leave_to
from rfgs.priors.fit import embed_and_release
from rfgs.priors.parts import Setup
from rfgs.priors.parts import offload as offload_weights
from rfgs.priors.phases import Say, quiet, tell_download, tell_network, tell_text

__all__ = [
    "Condition",
    "Prior",
    "Recipe",
    "Trainable",
    "guided",
    "load_prior",
    "unknown_words",
]


def load_prior(
    name_or_folder: str | Path,
    kind: Literal["flow", "diffusion"] | None = "flow",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    parts: str | Path | None = None,
    t5: Literal["keep", "8bit", "drop"] = "keep",
    quantize: Literal["none", "nf4"] = "none",
    lora: str | Path | None = None,
    lora_scale: float = 1.0,
    offload: bool = False,
    compile: bool = False,
    engine: Engine = "auto",
    prompts: Callable[[Prior], Sequence[str]] | None = None,
    say: Say = quiet,
) -> Prior:
    """Load a prior.

    Args:
        name_or_folder: a backend's name (`rfgs.models.catalog`), a folder in diffusers' layout, a hub id ("owner/name"), or
            a single file of Stable Diffusion 3 or FLUX (.safetensors, .gguf).
            InstaFlow's files look like Stable Diffusion's: "instaflow:FOLDER" says what they are.
        kind: what is wanted, a rectified flow or a diffusion model; None takes either.
        dtype: of the network's weights; None takes float32 for small models and on the CPU, half precision on CUDA.
        parts: a folder or hub id of the same model for what a single file lacks; None takes the hub's own.
        t5: "drop" leaves T5 out where a model can do without it (Stable Diffusion 3), which saves 9.5 GB to download and
            load, and reads prompts less closely; "8bit" halves its memory with bitsandbytes, which wants a GPU.
        quantize: "nf4" keeps the network's weights in 4 bits (Stable Diffusion 3, FLUX), with bitsandbytes on a GPU.
        lora: a file with a LoRA that is added to the network's weights, `lora_scale` times.
        offload: leave all weights in the CPU's memory and bring each layer's to `device` when it computes: hardly any GPU
            memory for weights, and each evaluation waits for all of them. No LoRA can be trained then.
        compile: have `torch.compile` make the network's evaluations faster; the first ones take minutes.
        engine: what evaluates the network on a CPU, see `rfgs.priors.engine`.
        prompts: makes the prompts of a run of a prior that has no weights yet, only settings. Of a big model they are embedded
            and the text encoders freed before the network is loaded, so that the two are never in memory at once.
        say: told each phase of loading a big model, in a line.

    Raises:
        UserError: a device that torch cannot compute on, nothing there, a model of another kind, a pipeline class that has no
            adapter, or too little memory.
    """
    check_card(torch.device(device))
    name = str(name_or_folder)
    place = locate(name)
    file = single_file.read(place.source) if single_file.is_file_name(place.source) else None
    if parts is not None and file is None:
        raise UserError(f"{name}: parts are for what a single file lacks, and this is none; leave them out")
    family = family_of(name) or _family_of_files(name, place.source)
    if kind not in (None, family.kind):
        raise UserError(f"{name}: {_OTHER_KIND[family.kind]}")
    if t5 == "drop" and not family.can_drop_t5:
        raise UserError(f"{name}: reads prompts with T5 alone; leave --t5 drop out")
    device = torch.device(device)
    whole = place.source if file is None else parts_of_file(file, None if parts is None else str(parts))
    bare = tuple(file.parts) if file else ()
    tell_download(whole, say, t5=t5 != "drop", bare=bare)
    # Found once; from here on everything is loaded from this folder, and needs no network.
    source = folder_of(whole, t5=t5 != "drop", bare=bare)
    if file:
        check_parts(file, Path(source), name)
    check_libraries(name, Path(source), device.type, t5=t5 != "drop")
    if lora is not None:
        if quantize != "none" or (file and file.quantized) or any(quantized_parts(Path(source))):
            raise UserError(f"--lora {lora}: cannot be added to quantized weights; take some that are not")
        check_lora(str(lora), lora_scale, family, name)
    if quantize == "nf4":
        check_nf4(device.type)
    dtype = dtype or _dtype(family, device, small=about(source).small)
    adapter = family.load_adapter()
    changed = place.style is not None or lora is not None or quantize != "none" or file is not None
    plain = about(source).small and device.type == "cpu" and not (changed or offload or compile)
    setup = Setup(device, dtype, t5, quantize, offload, file, leave_to(engine, dtype) if plain else None)
    from rfgs.priors.adapter import Adapter

    # What is not ours may read its texts and weights as it likes.
    big = issubclass(adapter, Adapter) and not about(source).small
    text: Any = None
    if big and prompts is not None:
        empty = adapter.load(source, name=name, setup=replace(setup, empty=True))
        tell_text(empty.text, source, say, t5=t5 != "drop", file=file)
        embed_and_release(empty, prompts(empty))
        text = empty.text
    if big:
        tell_network(source, say, file=file)
    prior = adapter.load(source, name=name, setup=setup)
    if text is not None:
        prior.text = text  # It knows the prompts, and reads new ones as the prior's own would.
    elif big:
        tell_text(prior.text, source, say, t5=t5 != "drop", file=file)
    if place.style:
        prior.add_style(*place.style)
    if lora is not None:
        from rfgs.priors.added_lora import add_lora

        add_lora(prior.network, family, Path(lora).expanduser(), lora_scale)
    if offload and family.network:
        for module in (prior.network, prior.autoencoder.module):
            offload_weights(module, device)
    if compile and family.network:
        prior.network.compile()
    elif family.network and device.type == "cpu" and setup.unread is None:
        attach(prior.network, engine)
    return cast(Prior, prior)


def unloaded(name: str) -> Prior:
    """The prior of a backend or folder with what is known of it before anything is loaded: enough for its recipe, and no
    more. Its image size is 0 where that is known by the network alone.

    Raises:
        UserError: files that are of no family.
    """
    place = locate(name)
    family = place.family or _family_of_files(name, place.source)
    adapter, said = family.load_adapter(), place.about()
    prior = adapter.__new__(adapter)
    prior.name, prior.kind, prior.vocabulary = name, family.kind, said.vocabulary
    prior.image_size = said.image_size or 0
    prior.distilled = said.distilled or is_distilled(name) or is_distilled(place.source)
    return cast(Prior, prior)


_OTHER_KIND = {
    "diffusion": "a diffusion model, which only the guidances sds and vsd can use; for all others give a "
    "rectified flow such as sd3 or instaflow",
    "flow": "a rectified flow, and a diffusion model is wanted, such as tiny-sd or sd15",
}


def _family_of_files(name: str, source: str) -> Family:
    """What a model's files say it is, fetched from the hub where they are there."""
    pipeline = index_of(source).get("_class_name")
    if pipeline is None:
        raise UserError(
            f"{name}: its {INDEX} does not say what it is; give a folder in diffusers' layout or a hub id"
        )
    known = {told: family for family in families() for told in family.pipelines}
    if pipeline not in known:
        raise UserError(f"{name}: {no_adapter(pipeline)}")
    return known[pipeline]


def _dtype(family: Family, device: torch.device, *, small: bool) -> torch.dtype:
    """Half precision where a big model runs on a GPU: bfloat16 for transformers, whose activations can overflow float16."""
    if small or device.type == "cpu":
        return torch.float32
    bfloat16 = family.half == "bfloat16" and computes_bfloat16()
    return torch.bfloat16 if bfloat16 else torch.float16
