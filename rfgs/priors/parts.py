"""The parts of a model in diffusers' layout: one subfolder each, loaded one by one.

Importing a whole pipeline class costs seconds and brings what distillation never uses (safety checkers, image
processors), so the adapters load parts and compute what the pipeline computes; tests compare the two.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch

from rfgs.errors import UserError
from rfgs.models.about import read_object
from rfgs.models.layout import weights
from rfgs.models.libraries import quantized_parts
from rfgs.models.single_file import SingleFile


@dataclass(frozen=True)
class Setup:
    """Where and how a model's parts are to be."""

    device: torch.device
    """Where they compute."""
    dtype: torch.dtype = torch.float32
    """Precision of the network and the text encoders."""
    t5: Literal["keep", "8bit", "drop"] = "keep"
    """T5 as the others, in 8-bit integers by bitsandbytes, or not at all."""
    quantize: Literal["none", "nf4"] = "none"
    """The network's weights in 4 bits by bitsandbytes."""
    offload: bool = False
    """Weights stay in the CPU's memory, and each layer's come to the device when it computes."""
    file: SingleFile | None = None
    """A single file, whose parts are taken in the place of those in the model's folder."""
    unread: Literal["auto", "openvino"] | None = None
    """The engine that a small model's network may be left to, as far as it can do without it (`rfgs.priors.unread`)."""
    empty: bool = False
    """Network and autoencoder are to have no weights: a prior that embeds prompts before there is room for them."""

    @property
    def home(self) -> torch.device:
        """Where weights are put when they are loaded."""
        if self.empty:
            return torch.device("meta")
        return torch.device("cpu") if self.offload else self.device


def load_module(
    kind: Any,
    source: str,
    part: str,
    *,
    device: torch.device | None,
    dtype: torch.dtype,
    file: SingleFile | None = None,
    **options: Any,
) -> Any:
    """A part with weights, of class `kind`, from the folder `source`: on `device`, in evaluation mode, frozen.

    The weights of parts that `file` holds come from there. `options` go to diffusers' or transformers' `from_pretrained`;
    with device None they say where the part is to be.

    Raises:
        OSError: no whole set of weights, or one that leaves parameters without values, which would be random.
    """
    if device is not None and device.type == "meta":
        return _without_weights(kind, source, part, dtype)
    if file and part in file.parts:
        from rfgs.priors.from_file import load_from_file

        module = load_from_file(kind, file, part, source, device=device, dtype=dtype, **options)
        return (module if device is None else module.to(device)).eval().requires_grad_(False)
    found = weights(Path(source) / part)
    if found is None:
        raise OSError(f"{part}/ holds no whole set of weights")
    if device is not None and (device.type != "cpu" or is_quantized(source, part)):
        # Straight there, tensor by tensor: the whole of it may be more than the CPU's memory holds, and what bitsandbytes
        # has loaded cannot be moved.
        options["device_map"], device = {"": device}, None
    options |= {"variant": found.variant, "use_safetensors": found.safetensors, "local_files_only": True}
    module, told = kind.from_pretrained(
        source, subfolder=part, torch_dtype=dtype, output_loading_info=True, **options
    )
    gone = sorted(told["missing_keys"])
    if gone:
        raise OSError(
            f"{part}/ lacks the weights of {gone[0]}" + f" and {len(gone) - 1} more" * (len(gone) > 1)
        )
    return (module if device is None else module.to(device)).eval().requires_grad_(False)


def _without_weights(kind: Any, source: str, part: str, dtype: torch.dtype) -> Any:
    """A part as its configuration has it, on the meta device."""
    with torch.device("meta"):
        module = kind.from_config(kind.load_config(source, subfolder=part, local_files_only=True))
    # Not diffusers' own `to`, which warns of weights that are none.
    return torch.nn.Module.to(module, dtype).eval().requires_grad_(False)


def load_network(kind: str, source: str, part: str, setup: Setup) -> Any:
    """The network of class `kind`, "package.module:Class", quantized if `setup` asks for that; see `load_module`.

    Returns:
        The module, or, where `setup` allows that and its files were read before, what stands for it.
    """
    if setup.unread:
        from rfgs.priors.unread import Unread

        read = partial(load_network, kind, source, part, replace(setup, unread=None))
        network = Unread(read, source, part, dtype=setup.dtype, engine=setup.unread)
        if not network.is_known():
            _ = network.module  # Now, and what is wrong with its files is told.
        return network
    module, _, name = kind.partition(":")
    found = getattr(import_module(module), name)
    device, options = setup.home, {}
    if setup.quantize == "nf4":
        from diffusers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=setup.dtype
        )
    return load_module(found, source, part, device=device, dtype=setup.dtype, file=setup.file, **options)


def check_width(source: str, parts: Sequence[str], key: str, wanted: int | None, by: str) -> None:
    """That the parts of a model go together: `key` of their configurations, added up, is what the network takes.

    Raises:
        OSError: it is not, so that they are of two models.
    """
    found = [read_json(source, f"{part}/config.json").get(key) for part in parts]
    widths = [width for width in found if isinstance(width, int)]
    if wanted is not None and len(widths) == len(parts) and sum(widths) != wanted:
        raise OSError(
            f"{' and '.join(f'{part}/' for part in parts)} has {sum(widths)} channels ({key}) and {by}/ takes {wanted}, so "
            "they are of two models"
        )


def is_quantized(source: str, part: str) -> bool:
    """Whether a part's weights were quantized before they were saved; see `rfgs.models.libraries`."""
    return part in dict(quantized_parts(Path(source)))


def offload(module: Any, device: torch.device) -> Any:
    """Leave a module's weights in the CPU's memory, and bring each layer's to `device` when it computes.

    Gradients go through it to its inputs. Its parameters look empty (on the meta device) from then on.
    """
    from accelerate import cpu_offload

    return cpu_offload(module, device)


def read_json(source: str, file: str) -> dict[str, Any]:
    """A JSON file of the folder `source`, such as "scheduler/scheduler_config.json"; OSError if there is none that is one."""
    content = read_object(Path(source) / file)
    if content is None:
        raise OSError(f"{file} is missing or cannot be read")
    return content


def digest(source: str, part: str) -> str:
    """Of the bytes of a part's configuration and weights."""
    place, found = Path(source) / part, weights(Path(source) / part)
    summed = hashlib.blake2b()
    for name in ("config.json", *(found.files if found else ())):
        content = (place / name).read_bytes()
        summed.update(f"{name} {len(content)} ".encode())
        summed.update(content)
    return summed.hexdigest()


def revision(source: str) -> str:
    """Which version of a model the folder `source` holds: what its text parts look like from outside."""
    files = sorted(file for file in Path(source).glob("t*/*") if file.is_file())
    return "\n".join(f"{f.relative_to(source)} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files)


@contextmanager
def whole_model(name: str, family: str) -> Iterator[None]:
    """Tells a part that cannot be loaded as the user's problem: missing, damaged, of another shape, too large, or in a
    format whose library is not installed."""
    import pickle

    from safetensors import SafetensorError

    # What diffusers, transformers and torch raise for files that are not what their configuration says.
    broken = (
        OSError,
        SafetensorError,
        ValueError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
    )
    try:
        with enough_memory(name):
            yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"{name}: a part of it wants a library that is not installed ({_first_line(error)}); install that, or give a "
            "model without it"
        ) from error
    except (*broken, pickle.UnpicklingError) as error:
        raise UserError(
            f"{name}: incomplete {family} model ({_first_line(error)}); download it again"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line.rstrip(".") for line in lines if line), type(error).__name__)


@contextmanager
def enough_memory(name: str) -> Iterator[None]:
    """Tells a model that the GPU or the machine has no room for, while it is loaded, as the user's problem."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Each library has its own, and its own text for it.
        short = _out_of_memory(error)
        if short is None:
            raise
        raise UserError(f"{name}: {_NO_ROOM[short]}") from error


_NO_ROOM = {
    "GPU": "the GPU's memory is not enough to load it; end what else uses the GPU, keep the weights in the CPU's memory with "
    "--offload, leave T5 out or make it smaller with --t5 drop or --t5 8bit, or take a smaller --backend (`rfgs doctor` says "
    "what fits)",
    "CPU": "this machine's memory is not enough to load it; end what else uses it, leave T5 out with --t5 drop, use "
    "--dtype bfloat16, or take a smaller --backend",
}
_SAID_OF_THE_GPU = ("cuda error: out of memory", "cuda out of memory", "alloc_failed")
_SAID_OF_THE_CPU = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "paging file is too small",
)


def _out_of_memory(error: BaseException | None) -> Literal["GPU", "CPU"] | None:
    """Whose memory ran out, as Python, the system's files, safetensors and torch's allocators say it; None where none did."""
    while error is not None:
        said = str(error).lower()
        if isinstance(error, torch.cuda.OutOfMemoryError) or any(words in said for words in _SAID_OF_THE_GPU):
            return "GPU"
        full = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
        if full or any(words in said for words in _SAID_OF_THE_CPU):
            return "CPU"
        error = error.__cause__ or error.__context__
    return None
