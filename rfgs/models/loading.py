"""`Loading`: how a model is loaded, as the flags, a run's record and `rfgs.priors.load_prior` have it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a big model is loaded: for cards that are small, and for runs that are long."""

    parts: str | None = None
    """Where what a single file (--model FILE) lacks is taken from: a folder in diffusers' layout, or a hub id, of the same
    model. Without it, the hub's own, which is downloaded if it is not there."""
    t5: Literal["keep", "8bit", "drop"] = "keep"
    """sd3, sd35, flux: what becomes of T5, the largest of their text encoders. drop leaves it out (not with flux), which
    saves 9.5 GB to download and load; long prompts are then read less closely. 8bit halves it with bitsandbytes."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision of the network; auto takes half precision for big models on a GPU, bfloat16 to optimize on a CPU that
    computes in it, and float32 elsewhere."""
    quantize: Literal["none", "nf4"] = "none"
    """sd3, sd35, flux: nf4 has bitsandbytes keep the network's weights in 4 bits on the GPU, a quarter of half precision, and
    multiply in --dtype. A GGUF file, which runs anywhere, is quantized already."""
    lora: str | None = None
    """A LoRA (.safetensors) for a style, which is added to the network's weights: one that was trained for the same model."""
    lora_scale: float = 1.0
    """How much of it is added: 1 is what it was trained for, 0 nothing, and less than 0 the opposite."""
    offload: bool = False
    """Leave the weights in the CPU's memory, and bring them to the GPU layer by layer: for models that do not fit, and
    much slower."""
    compile: bool = False
    """Compile the network with torch.compile: faster steps, after some minutes at the first ones."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What evaluates the network on a CPU where no gradient is wanted; auto takes OpenVINO where it is installed."""
