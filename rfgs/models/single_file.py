"""Models in a single file, as most people keep them: what its header says is in it, before anything of it is loaded.

Stability's and ComfyUI's safetensors of SD3, SD3.5 and FLUX hold the transformer under "model.diffusion_model." or at the
top, and at times the autoencoder and the text encoders; GGUF holds a quantized transformer alone. Configurations and
tokenizers are in none of them. No torch here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.models.about import read_object
from rfgs.models.families import FLUX, SD3, Family
from rfgs.models.weight_files import damage, header

SUFFIXES = (".safetensors", ".gguf", ".sft", ".ckpt", ".pt", ".pth", ".bin")
"""Names that end so are files, and neither folders nor hub ids."""
INSTALL_GGUF = "install it with `pip install 'rfgs[gguf]'`"
NETWORK = "transformer"
_WHERE = {
    "vae": ("first_stage_model.", "vae."),
    "clip_l": ("text_encoders.clip_l.transformer.",),
    "clip_g": ("text_encoders.clip_g.transformer.",),
    "t5": ("text_encoders.t5xxl.transformer.",),
}
"""Where what is beside the transformer stands in a file."""
_FOLDERS = {
    "sd3": {"vae": "vae", "clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5": "text_encoder_3"},
    "flux": {"vae": "vae", "clip_l": "text_encoder", "t5": "text_encoder_2"},
}
"""What the same parts are called in diffusers' layout."""
_SCALED = ("scaled_fp8", ".scale_weight", ".weight_scale", ".scale_input")
"""Ends of names that say that weights are to be multiplied by scales, which nothing here does."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class SingleFile:
    """What is in a file."""

    path: Path
    """Absolute."""
    family: Family
    backend: str
    """The backend whose model it is, or was made from."""
    parts: Mapping[str, str]
    """Parts that it holds, as diffusers' layout calls them, each with what stands before its tensors' names."""
    traits: Mapping[str, Any]
    """The transformer's size, by names that `traits_of` has for a configuration too."""
    parameters: int
    """Of the transformer."""
    size: int
    """Bytes of the transformer in the file."""
    quantized: bool
    """Whether it stays in memory as it is in the file: GGUF."""

    def revision(self) -> str:
        """Which version of the file this is."""
        about = self.path.stat()
        return f"{self.path} {about.st_size} {about.st_mtime_ns}"


def is_file_name(source: str) -> bool:
    """Whether a model's name is that of a single file, there or not."""
    return Path(source).suffix.lower() in SUFFIXES and not Path(source).expanduser().is_dir()


def find(source: str) -> SingleFile | None:
    """What is in a file; None where it is none, or none that can be read (`read` says why)."""
    if not is_file_name(source):
        return None
    try:
        return read(source)
    except UserError:
        return None


def read(source: str) -> SingleFile:
    """What is in a file, by its header.

    Raises:
        UserError: no such file, one of another kind, cut short, or no transformer of a family that has single files.
    """
    path = Path(source).expanduser().absolute()
    name = f"--model {source}"
    if not path.is_file():
        gone = "is a link to a file that is gone" if path.is_symlink() else "no such file"
        raise UserError(
            f"{name}: {gone}; give a file (.safetensors, .gguf), a folder in diffusers' layout, or a hub id"
        )
    quantized = path.suffix.lower() == ".gguf"
    if quantized:
        shapes, bytes_of = _gguf(path, name)
    else:
        shapes, bytes_of = _safetensors(path, name)
    prefix = "model.diffusion_model." if any(k.startswith("model.diffusion_model.") for k in shapes) else ""
    network = {k.removeprefix(prefix): shape for k, shape in shapes.items() if k.startswith(prefix)}
    family = _family(network)
    if family is None:
        raise UserError(f"{name}: {_what_else(shapes)}")
    scaled = [k for k in shapes if k.endswith(_SCALED)]
    if any(k.startswith(prefix) and not k.startswith("text_encoders.") for k in scaled):
        raise UserError(
            f"{name}: its weights are in 8 bit with scales beside them ({scaled[0]}), which cannot be loaded; take the file "
            "in 16 bit, in 8 bit without scales, or a GGUF"
        )
    parts = {NETWORK: prefix}
    for part, folder in _FOLDERS[family.name].items():
        for before in _WHERE[part]:
            inside = [k for k in shapes if k.startswith(before)]
            if inside and not any(k.startswith(before) for k in scaled):
                parts[folder] = before
    traits = _traits_of_file(family, network)
    own = [k for k in network if prefix or not k.startswith(tuple(b for w in _WHERE.values() for b in w))]
    return SingleFile(
        path,
        family,
        _backend(family, traits),
        parts,
        traits,
        parameters=sum(math.prod(network[k]) for k in own),
        size=sum(bytes_of[prefix + k] for k in own),
        quantized=quantized,
    )


def check_config(file: SingleFile, folder: Path) -> str | None:
    """How the transformer that the configuration in `folder` describes differs from that in the file; None if it does not."""
    config = read_object(folder / NETWORK / "config.json") or {}  # Whoever loads it will tell.
    for what, theirs in traits_of(file.family, config).items():
        mine = file.traits[what]
        if theirs != mine:
            return f"its transformer has {what} {mine}, and {NETWORK}/config.json says {theirs}"
    return None


def traits_of(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """The size of the transformer with this configuration; only what it says."""
    found: dict[str, Any] = {
        "layers": config.get("num_layers"),
        "input channels": config.get("in_channels"),
    }
    if "attention_head_dim" in config and "num_attention_heads" in config:
        found["width"] = config["attention_head_dim"] * config["num_attention_heads"]
    if family is FLUX:
        found["single layers"] = config.get("num_single_layers")
        found["guidance"] = bool(config.get("guidance_embeds"))
    else:
        found["dual layers"] = len(config.get("dual_attention_layers") or ())
        found["normed queries"] = bool(config.get("qk_norm"))
    return {what: value for what, value in found.items() if value is not None}


def _family(network: Shapes) -> Family | None:
    if not _first(network):
        return None
    if any(k.startswith(("double_blocks.", "single_transformer_blocks.")) for k in network):
        return FLUX
    return SD3 if any(k.startswith(("joint_blocks.", "transformer_blocks.")) for k in network) else None


def _first(network: Shapes) -> tuple[int, ...]:
    """The shape [width, input channels, ...] of the first layer, under the names of all families; empty if there is none."""
    names = ("img_in.weight", "x_embedder.weight", "x_embedder.proj.weight", "pos_embed.proj.weight")
    return next((network[name] for name in names if len(network.get(name, ())) > 1), ())


def _traits_of_file(family: Family, network: Shapes) -> dict[str, Any]:
    width, channels, *_ = _first(network)
    found: dict[str, Any] = {"width": width, "input channels": channels}
    if family is FLUX:
        return found | {
            "layers": _count(network, ("double_blocks", "transformer_blocks")),
            "single layers": _count(network, ("single_blocks", "single_transformer_blocks")),
            "guidance": any("guidance_in." in k or "guidance_embedder." in k for k in network),
        }
    return found | {
        "layers": _count(network, ("joint_blocks", "transformer_blocks")),
        "dual layers": len({k.split(".")[1] for k in network if ".attn2." in k}),
        "normed queries": any(".ln_q." in k or ".norm_q." in k for k in network),
    }


def _count(network: Shapes, names: tuple[str, ...]) -> int:
    pattern = re.compile(rf"(?:{'|'.join(names)})\.(\d+)\.")
    return max((int(found[1]) + 1 for k in network if (found := pattern.match(k))), default=0)


def _backend(family: Family, traits: Mapping[str, Any]) -> str:
    if family is FLUX:
        return "flux-dev" if traits["guidance"] else "flux-schnell"
    return "sd35-medium" if traits["dual layers"] else "sd35-large" if traits["normed queries"] else "sd3"


def _what_else(shapes: Shapes) -> str:
    """What is said of a file without a transformer that is known."""
    known = "a transformer of SD3, SD3.5 or FLUX is wanted"
    if any(".quant_state." in k for k in shapes):
        return f"is quantized by bitsandbytes, which is read from a folder in diffusers' layout only; {known}"
    if any("lora_" in k or ".lora." in k for k in shapes):
        return f"is a LoRA, which is not a model of its own; {known}"
    if any(k.startswith("conditioner.embedders.") for k in shapes):
        return f"is a Stable Diffusion XL, which has no adapter yet; {known}"
    if any(k.startswith("model.diffusion_model.input_blocks.") for k in shapes):
        return f"is a Stable Diffusion with a UNet, which is read from a folder in diffusers' layout only; {known}"
    return f"holds no such model (its first tensor is {next(iter(shapes), 'none')}); {known}"


def _safetensors(path: Path, name: str) -> tuple[Shapes, dict[str, int]]:
    if path.suffix.lower() not in (".safetensors", ".sft"):
        raise UserError(
            f"{name}: is a pickle by its name, which may run code when it is read; take the same model as .safetensors"
        )
    try:
        problem, found = damage(path), header(path)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    if problem or found is None:
        raise UserError(f"{name}: {problem or 'is not a file of weights'}; download or copy it again")
    try:
        shapes = {k: tuple(int(side) for side in v["shape"]) for k, v in found.items()}
        return shapes, {k: v["data_offsets"][1] - v["data_offsets"][0] for k, v in found.items()}
    except (TypeError, KeyError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{name}: its header is damaged; download or copy it again") from error


def _gguf(path: Path, name: str) -> tuple[Shapes, dict[str, int]]:
    if machine.version("gguf") is None:
        raise UserError(f"{name}: is read with the library gguf, which is not installed; {INSTALL_GGUF}")
    import gguf

    try:
        tensors = gguf.GGUFReader(path).tensors
        # Sides are kept in the other order there.
        shapes = {tensor.name: tuple(int(side) for side in reversed(tensor.shape)) for tensor in tensors}
        return shapes, {tensor.name: int(tensor.n_bytes) for tensor in tensors}
    except Exception as error:  # Damaged bytes raise whatever they like.
        raise UserError(f"{name}: is not a GGUF file, or is cut short; download or copy it again") from error
