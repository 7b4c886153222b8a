"""Fits a model into memory for a run: the one place where the plan of `rfgs.models.memory` meets a real machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rfgs.models import ram
from rfgs.models.card import computes_bfloat16
from rfgs.models.loading import Loading
from rfgs.models.memory import DECODE, ENCODE_FIRST, ENCODE_NEXT, ENCODE_VIEW, SLACK
from rfgs.priors.base import Prior


def loading(job: Loading, *, distills_on: str | None = None) -> dict[str, Any]:
    """What `rfgs.priors.load_prior` is asked for; `distills_on`: the device of a run that distills, see `distillation_dtype`."""
    if job.dtype != "auto":
        dtype = getattr(torch, job.dtype)
    else:
        dtype = None if distills_on is None else distillation_dtype(distills_on)
    return {
        "parts": job.parts,
        "t5": job.t5,
        "dtype": dtype,
        "quantize": job.quantize,
        "lora": job.lora,
        "lora_scale": job.lora_scale,
        "offload": job.offload,
        "compile": job.compile,
        "engine": job.engine,
    }


def distillation_dtype(device: str) -> torch.dtype | None:
    """bfloat16 on a CPU that computes in it, which makes an evaluation of tiny-sd3 1.5 times faster; else None.

    Rounding turns a distillation gradient of tiny-sd3 by a cosine of 0.997 or more, where another draw of the noise turns
    it by 0.8 to 0.9. Inversion and sampling, which repeat an evaluation until it is exact, are better off in float32.
    """
    can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = can.get("avx512_bf16") or can.get("amx_bf16")
    return torch.bfloat16 if device == "cpu" and native else None


def embed_and_release(prior: Prior, prompts: Sequence[str]) -> None:
    """Embed all prompts that a run will need, then free the text encoders; a model that keeps none is left alone.

    The model remembers what it has embedded, and a prompt that comes up later loads the encoders for a moment.
    """
    release = getattr(prior, "release_text", None)
    if release is not None:
        prior.embed(list(dict.fromkeys(prompts)))
        release()


def fit_views(
    prior: Prior,
    *,
    views: int,
    size: int,
    free: int | None = None,
    reserve: int = 0,
    reserve_sliced: int | None = None,
) -> str | None:
    """Have the views encoded and evaluated one by one, and encoded in half precision, where free memory asks for it.

    Args:
        views: views per step;  size: their width and height, pixels.
        free: bytes of memory that are free now, the network being loaded; None asks the GPU, or the system for the CPU's.
        reserve: bytes of them that a step needs for something else, the evaluation of the network above all.
        reserve_sliced: the same where the views are evaluated one by one; None for no less.

    Returns:
        What was changed, in words for the user; None where all fits as it is.
    """
    found = _room(prior, size, free)
    if found is None:
        return None
    autoencoder, share, free = found
    if SLACK * share * ENCODE_VIEW * views <= free - reserve:
        return None
    autoencoder.slice_views = True
    prior.max_batch = 2  # type: ignore[attr-defined]  # One view, with and without its prompt.
    free -= reserve if reserve_sliced is None else reserve_sliced
    if SLACK * share * (ENCODE_FIRST + ENCODE_NEXT * (views - 1)) <= free:
        return "views go through the model one by one to fit the memory"
    autoencoder.to(_half(prior))
    return "views go through the model one by one, and are encoded in half precision, to fit the memory"


def fit_latents(prior: Prior, *, images: int, size: int, sample: int, free: int | None = None) -> str | None:
    """The same for a run that moves latents themselves: they are evaluated one by one, and decoded in half precision.

    Args:
        images: moved at once;  size: their width and height, pixels.
        sample: bytes of one sample of them in an evaluation of the network; 0 if nobody knows.
        free: see `fit_views`.
    """
    found = _room(prior, size, free)
    if found is None:
        return None
    autoencoder, share, free = found
    done = []
    if SLACK * 2 * images * sample > free and images > 1:
        prior.max_batch = 2  # type: ignore[attr-defined]
        done.append("images go through the model one by one")
    if SLACK * share * DECODE > free:
        autoencoder.to(_half(prior))
        done.append("pictures are decoded in half precision")
    return f"{', and '.join(done)}, to fit the memory" if done else None


def _room(prior: Prior, size: int, free: int | None) -> tuple[Any, float, int] | None:
    """The autoencoder of a model, what a view of `size` pixels takes of one of 512 in the real ones, and what is free;
    None where there is nothing to fit, or nobody knows what is free."""
    autoencoder = getattr(prior, "autoencoder", None)
    if autoencoder is None or not hasattr(autoencoder.module.config, "latent_channels"):
        return None
    if free is None:
        device = torch.device(prior.device)  # type: ignore[attr-defined]
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else ram.available()
    if free is None:
        return None
    # The measured figures are those of the real encoder; the embedded models' are a fraction of it.
    parameters = sum(parameter.numel() for parameter in autoencoder.module.parameters())
    return autoencoder, (size / 512) ** 2 * min(1.0, parameters / 83_000_000), free


def _half(prior: Any) -> torch.dtype:
    """The precision to save memory with."""
    can = torch.device(prior.device).type == "cpu" or computes_bfloat16()
    return torch.bfloat16 if can else torch.float16
