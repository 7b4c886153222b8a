"""Parts of a single file (`rfgs.models.single_file`) as modules of diffusers and transformers, without the network.

Names and layouts are turned into diffusers' by diffusers itself; the configuration is that of a folder of the same model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfgs.models.families import SD3
from rfgs.models.single_file import SingleFile


def load_from_file(
    kind: Any,
    file: SingleFile,
    part: str,
    source: str,
    *,
    device: torch.device | None,
    dtype: torch.dtype,
    **options: Any,
) -> Any:
    """The part of class `kind`, its weights from `file`, its configuration from the folder `source`; not yet frozen.

    `options` are diffusers' or transformers' own, such as `quantization_config`.

    Raises:
        OSError: weights that the configuration asks for are not in the file.
    """
    if part.startswith("text_encoder"):
        return _text_encoder(kind, file, part, source, dtype, options)
    if file.quantized:
        from diffusers import GGUFQuantizationConfig

        content: Any = str(file.path)
        options = {**options, "quantization_config": GGUFQuantizationConfig(compute_dtype=dtype)}
    else:
        content = _tensors(file, part, dtype)
    options |= {"config": source, "subfolder": part, "torch_dtype": dtype, "local_files_only": True}
    try:
        # The tensors' names may be diffusers' already.
        with _no_warnings():
            module = kind.from_single_file(content, device=device, **options)
    except (LookupError, NotImplementedError) as error:
        raise OSError(f"{file.path.name} lacks weights of the {part} ({error})") from error
    gone = [name for name, value in module.state_dict().items() if value.is_meta]
    if gone:
        raise OSError(f"{file.path.name} lacks the weights of {gone[0]}")
    if file.quantized:
        _dequantize_all_but_linear(module, dtype)
    return module


@contextmanager
def _no_warnings() -> Iterator[None]:
    """diffusers warns of what it does itself (`to` after loading); what is missing is looked for here."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@torch.no_grad()
def _dequantize_all_but_linear(module: Any, dtype: torch.dtype) -> None:
    """Only diffusers' linear layers compute with quantized weights; others, and biases, would take the bytes for numbers."""
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, dequantize_gguf_tensor

    for owner in module.modules():
        for values in (owner._parameters, owner._buffers):
            for name, value in values.items():
                if isinstance(value, GGUFParameter) and not (
                    isinstance(owner, GGUFLinear) and name == "weight"
                ):
                    plain = dequantize_gguf_tensor(value).as_subclass(Tensor).to(dtype)
                    trained = values is owner._parameters
                    values[name] = torch.nn.Parameter(plain, requires_grad=False) if trained else plain


def _tensors(file: SingleFile, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
    from safetensors import safe_open

    before = file.parts[part]
    with safe_open(file.path, framework="pt") as content:
        names = [name for name in content.keys() if name.startswith(before)]
        found = {name.removeprefix(before): content.get_tensor(name) for name in names}
    # Floats of 8 bit have hardly any arithmetic, and diffusers splits and joins what it gets.
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in found.items()}


def _text_encoder(
    kind: Any, file: SingleFile, part: str, source: str, dtype: torch.dtype, options: dict[str, Any]
) -> Any:
    config = kind.config_class.from_pretrained(Path(source) / part, local_files_only=True)
    tensors = _tensors(file, part, dtype)
    if file.family is SD3 and part == "text_encoder":
        # Stability's own code does not project the first CLIP's output, whatever the file says.
        tensors["text_projection.weight"] = torch.eye(config.projection_dim, config.hidden_size, dtype=dtype)
    module, told = kind.from_pretrained(
        None, config=config, state_dict=tensors, torch_dtype=dtype, output_loading_info=True, **options
    )
    gone = sorted(told["missing_keys"])
    if gone:
        raise OSError(f"{file.path.name} lacks the weights of {gone[0]} of the {part}")
    return module
