"""Text encoders: one tokenizer and one encoder each, loaded when a prompt needs them and freed before the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rfgs.priors.parts import load_module

_MARGIN = 2 << 30
"""Bytes of GPU memory that have to stay free beside a text encoder, for its activations and the CUDA libraries."""


@dataclass(frozen=True, eq=False)
class TextPart:
    """A tokenizer with its encoder."""

    tokenizer: Any
    encoder: Any

    def ids(self, prompts: Sequence[str], length: int | None = None) -> Tensor:
        """Token ids [B, L] where the encoder is, padded and cut to `length` (None: what the tokenizer was made for)."""
        length = length or self.tokenizer.model_max_length
        ids = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True
        ).input_ids
        return torch.tensor(ids, device=self.encoder.device)


def load_text(
    encoder: Any, tokenizer: Any, source: str, suffix: str, *, device: torch.device, dtype: torch.dtype
) -> TextPart:
    """The text encoder in subfolder "text_encoder" + suffix, of class `encoder`, and the tokenizer beside it.

    One that does not fit into what is left of the GPU's memory stays on the CPU: T5 has 4.8 billion parameters, and a
    run needs it once.
    """
    words = tokenizer.from_pretrained(source, subfolder=f"tokenizer{suffix}")
    module = load_module(encoder, source, f"text_encoder{suffix}", device=torch.device("cpu"), dtype=dtype)
    if device.type == "cuda":
        size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
        if size + _MARGIN < torch.cuda.mem_get_info(device)[0]:
            return TextPart(words, module.to(device))
        # float16 is emulated on CPUs.
        return TextPart(words, module.to(torch.bfloat16))
    return TextPart(words, module.to(device))
