"""How much memory a model's work takes, measured on the meta device: real shapes, no weights, no GPU.

What is counted are the tensors that live at the same time. A GPU adds its own: the CUDA context, workspaces of
convolutions, blocks that the allocator keeps.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rfgs.measure.architectures import build, family
from rfgs.priors.autoencoder import Autoencoder


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make under it, for as long as each one lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            # What was there before, weights above all, is not counted, nor are views of it.
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._seen:
                self._seen[tensor.untyped_storage()._cdata] = None
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed() -> None:
            self.now -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.finalize(storage, freed)


def peak(work: Callable[[], Any]) -> int:
    """The most bytes that `work` keeps alive at once, beyond what was there before; what it returns is kept till the end."""
    with LiveMemory() as memory:
        result = work()
    del result
    return memory.peak


class _FusedAttention(torch.autograd.Function):
    """Attention as GPUs compute it, without the matrix of all pairs: what goes in and comes out is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def _fused_attention() -> Iterator[None]:
    """The meta device would take the plain formula."""

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return _FusedAttention.apply(query, key, value)

    plain = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


def evaluation(name: str, *, batch: int, size: int = 512, dtype: torch.dtype = torch.float16) -> int:
    """Bytes of activations of one evaluation of the network of backend `name`, without gradient, weights not counted.

    Args:
        batch: samples in one evaluation; classifier-free guidance takes two a view.
        size: width and height of the image, pixels.
    """
    network: Any = build(name, "network", dtype=dtype)
    arguments = _arguments(name, network, batch, size, dtype)

    def work() -> Any:
        with torch.no_grad(), _fused_attention():
            return network(*arguments, return_dict=False)

    return peak(work)


def training(name: str, *, batch: int, size: int = 512, dtype: torch.dtype = torch.float16) -> int:
    """Bytes of activations of one training step of a LoRA on the network, as `rfgs.guidance.lora.Student` takes it.

    Neither weights nor the optimizer's state are counted. All these networks are large enough to have their activations
    computed anew on the way back.
    """
    network: Any = build(name, "network", dtype=dtype)
    add_lora(network, rank=4)
    network.enable_gradient_checkpointing()
    arguments = _arguments(name, network, batch, size, dtype)

    def work() -> Any:
        with _fused_attention():
            output = network(*arguments, return_dict=False)[0]
            # Z-Image's gives each sample by itself.
            output = torch.stack(output) if isinstance(output, list) else output
            output.float().square().sum().backward()

    return peak(work)


def add_lora(network: Any, *, rank: int) -> int:
    """Put a student's LoRA on a network of the meta device; returns the number of its parameters."""
    from peft import LoraConfig

    from rfgs.guidance.lora import ATTENTION

    network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION))
    own = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in own:
        parameter.data = parameter.data.float()
    return sum(parameter.numel() for parameter in own)


def _arguments(name: str, network: Any, batch: int, size: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """What an evaluation of the network of backend `name` takes."""
    side, config = size // 8, network.config

    def empty(*shape: int) -> Tensor:
        return torch.empty(batch, *shape, device="meta", dtype=dtype)

    time = torch.empty(batch, device="meta")
    if family(name) == "sd":
        return (empty(4, side, side), time, empty(77, config.cross_attention_dim))
    if family(name) == "sd3":
        return (empty(16, side, side), empty(333, 4096), empty(2048), time)
    tokens = side * side // 4
    if family(name) == "flux2":
        places = [torch.empty(count, 4, device="meta") for count in (tokens, 512)]
        return (empty(tokens, 128), empty(512, 7680), time, *places)
    if family(name) == "z-image":
        return (list(empty(16, 1, side, side)), time, list(empty(512, 2560)))
    text = 512 if config.guidance_embeds else 256
    places = [torch.empty(count, 3, device="meta", dtype=dtype) for count in (tokens, text)]
    guidance = time if config.guidance_embeds else None
    return (empty(tokens, 64), empty(text, 4096), empty(768), time, *places, guidance)


def encoding(name: str, *, views: int, size: int = 512, slice_views: bool) -> int:
    """Bytes that encoding `views` images and the way back to them take, float32, weights not counted."""
    autoencoder = Autoencoder(build(name, "autoencoder"))
    autoencoder.slice_views = slice_views
    images = torch.empty(views, 3, size, size, device="meta", requires_grad=True)

    def work() -> Any:
        latents = autoencoder.encode(images)
        latents.backward(torch.empty_like(latents))

    return peak(work)


def decoding(name: str, *, size: int = 512) -> int:
    """Bytes that decoding one picture takes, float32, weights not counted."""
    autoencoder: Any = build(name, "autoencoder")
    latents = torch.empty(1, autoencoder.config.latent_channels, size // 8, size // 8, device="meta")

    def work() -> Any:
        with torch.no_grad():
            return autoencoder.decode(latents).sample

    return peak(work)
