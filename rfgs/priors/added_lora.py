"""A LoRA that somebody has trained, for a style: added to the weights of a network once they are loaded.

W becomes W + scale (alpha / rank) B A, so that nothing is left of it beside the network: it costs no memory and no time, a
student (`rfgs.guidance.lora`) starts from the styled network, and "the prior" is the styled one everywhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from rfgs.errors import UserError
from rfgs.models.about import read_object
from rfgs.models.families import FLUX, SD3, Family

_MATRIX = re.compile(r"(?P<layer>.+)\.lora_(?P<which>[AB])\.weight")


def add_lora(network: Any, family: Family, file: Path, scale: float = 1.0) -> None:
    """Adds what `file` has for the network, in any of the layouts that diffusers reads; what it has for text encoders is left.

    Raises:
        UserError: nothing in it is for this network, or it is for one of another size.
    """
    name, part = f"--lora {file}", "transformer" if family in (SD3, FLUX) else "unet"
    try:
        tensors, alphas, config = _in_diffusers_names(file, network, family, part)
    except (ValueError, LookupError, TypeError, RuntimeError, NotImplementedError, OSError) as error:
        raise UserError(f"{name}: cannot be read as one for this model ({_line(error)})") from error
    own = {k: v for k, v in tensors.items() if k.startswith(f"{part}.")}
    if not own:
        first = next(iter(tensors), "none")
        raise UserError(
            f"{name}: holds nothing for the {part} that is known by its names (the first is {first}); give one in the names "
            "of diffusers or peft"
        )
    for key, value in own.items():
        _check_fits(network, key.removeprefix(f"{part}."), value, name)
    # How much it counts is said once: by diffusers' note in the file, or by a number beside each layer.
    counts = {"metadata": config} if config else {"network_alphas": alphas or None}
    network.load_lora_adapter(own, prefix=part, adapter_name="added", **counts)
    network.fuse_lora(lora_scale=scale, adapter_names=["added"])
    network.unload_lora()
    network.requires_grad_(False)


def _in_diffusers_names(
    file: Path, network: Any, family: Family, part: str
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any] | None]:
    """Tensors in peft's names behind that of the part, alphas that are not multiplied in yet, and peft's settings."""
    from diffusers.loaders import lora_pipeline
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    how = {
        "weight_name": file.name,
        "use_safetensors": True,
        "local_files_only": True,
        "return_lora_metadata": True,
    }
    folder, alphas = str(file.parent), None
    if family is FLUX:
        mixin = lora_pipeline.FluxLoraLoaderMixin
        found, alphas, config = mixin.lora_state_dict(folder, return_alphas=True, **how)
    elif family is SD3:
        found, config = lora_pipeline.SD3LoraLoaderMixin.lora_state_dict(folder, **how)
        found, alphas = _of_peft(found, file)
    else:
        mixin = lora_pipeline.StableDiffusionLoraLoaderMixin
        found, alphas, config = mixin.lora_state_dict(folder, unet_config=network.config, **how)
    if not any("lora_A" in k for k in found):
        found = convert_unet_state_dict_to_peft(found)
    if _is_bare(found, network):
        found = {f"{part}.{k}": value for k, value in found.items()}
        config = {f"{part}.{k}": value for k, value in (config or {}).items()}
    return found, alphas or {}, config


def _is_bare(tensors: dict[str, Tensor], network: Any) -> bool:
    """Whether names are those of the network's own layers, as its `save_lora_adapter` writes them."""
    try:
        network.get_submodule(next(iter(tensors), "none").split(".lora_")[0])
    except AttributeError:
        return False
    return True


def _of_peft(tensors: dict[str, Tensor], file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What peft itself wrote, without a name of the network before the layers', under diffusers' names, with its alphas."""
    alphas = {k: tensors.pop(k).item() for k in list(tensors) if k.endswith(".alpha")}
    wrapper = "base_model.model."
    if not all(k.startswith(wrapper) for k in tensors):
        return tensors, alphas
    config = read_object(file.parent / "adapter_config.json") or {}
    found = {f"transformer.{k.removeprefix(wrapper)}": value for k, value in tensors.items()}
    if "lora_alpha" in config:
        layers = {k.split(".lora_")[0] for k in found}
        alphas = {f"{layer}.alpha": config["lora_alpha"] for layer in layers}
    return found, alphas


def _check_fits(network: Any, key: str, value: Tensor, name: str) -> None:
    found = _MATRIX.fullmatch(key)
    if found is None:
        raise UserError(f"{name}: {key} is not of a plain LoRA; give one without such extras")
    try:
        weight = network.get_submodule(found["layer"]).weight
    except AttributeError as error:
        raise UserError(
            f"{name}: is for another model: this one has no layer {found['layer']}; give one that was made for it"
        ) from error
    # Of A the inputs count, of B the outputs.
    mine, theirs = (
        (weight.shape[1], value.shape[1]) if found["which"] == "A" else (weight.shape[0], value.shape[0])
    )
    if mine != theirs:
        raise UserError(
            f"{name}: is for a model of another width: {key} has {theirs} where this one has {mine}; give one that was "
            "made for it"
        )


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
