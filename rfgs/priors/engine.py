"""Which engine evaluates a network on the CPU: OpenVINO where it is installed and no gradient is wanted, else torch.

`attach` takes the place of a diffusers module's `forward`, below everything that a prior does, so that every family, sampling
and the viewer have it. What needs gradients or a LoRA goes to torch as before, and so does everything once OpenVINO
has failed. `rfgs.priors.converted` has what knows OpenVINO.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.models.threads import usable

Engine = Literal["auto", "torch", "openvino"]

AUTO = True
"""Whether "auto" may take OpenVINO; the tests of other things switch it off."""
LARGEST = 1 << 30
"""Bytes of weights up to which networks are converted: OpenVINO holds them a second time, and larger ones are not measured."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest error of a converted network: rms of the difference from torch's output, as a share of that output's rms."""
UNBATCHED = ("img_ids", "txt_ids")
"""Inputs of FLUX that all samples of a batch share."""


@dataclass(frozen=True)
class Call:
    """One evaluation: the tensors by their names in `forward`, and its other arguments."""

    tensors: dict[str, Tensor]
    rest: dict[str, Any]

    @classmethod
    def of(cls, given: dict[str, Any]) -> Call | None:
        """The evaluation with these arguments, by their names in `forward` and in its order; None if it is none for OpenVINO."""
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        rest = {name: value for name, value in given.items() if name not in tensors}
        plain = all(value is None or isinstance(value, (bool, int, float)) for value in rest.values())
        here = all(value.device.type == "cpu" and value.dim() > 0 for value in tensors.values())
        return cls(tensors, rest) if plain and here and rest.get("return_dict") is False else None

    @property
    def batch(self) -> int:
        """Samples."""
        return len(next(iter(self.tensors.values())))

    def of_batch(self, size: int) -> list[Tensor]:
        """The tensors with as many samples, all of them the first one."""
        return [
            value if name in UNBATCHED else value[:1].repeat(size, *[1] * (value.dim() - 1))
            for name, value in self.tensors.items()
        ]

    def parts(self, count: int) -> list[list[Tensor]]:
        """The tensors of so many parts of the batch, all of one size."""
        shares = [
            [value] * count if name in UNBATCHED else value.chunk(count)
            for name, value in self.tensors.items()
        ]
        return [list(part) for part in zip(*shares, strict=True)]

    def with_noise(self) -> Call:
        """The same with noise for latents, which every network's `forward` takes first.

        Networks answer noise with an output of its size. Latents of zero may get one near zero, beside which bfloat16's
        rounding is large: 0.08 of it for tiny-sd3, by torch as by OpenVINO, where noise gets 0.015.
        """
        name, latents = next(iter(self.tensors.items()))
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        return replace(self, tensors={**self.tensors, name: noise.to(latents.dtype)})

    def signature(self) -> str:
        """All but the batch and the values."""
        shapes = {
            name: (str(value.dtype), value.shape[0 if name in UNBATCHED else 1 :])
            for name, value in self.tensors.items()
        }
        return repr((shapes, self.rest))


def attach(network: Any, engine: Engine = "auto", digest: str | None = None) -> None:
    """Have evaluations of `network` without gradients go through OpenVINO, if it can be.

    Args:
        network: a diffusers module on the CPU, its weights final.
        engine: "auto" takes OpenVINO where it is installed, "openvino" insists on it.
        digest: of all that its output depends on, under which it is kept on disk; None has it made of what it is now.

    Raises:
        UserError: it is insisted on and not there, or the network cannot be converted.
    """
    if engine == "torch" or (engine == "auto" and not AUTO):
        return
    problem = _problem(network)
    if problem is None:
        network.forward = Forward(network, digest)
    elif engine == "openvino":
        raise UserError(f"--engine openvino: {problem}, or leave --engine out")


def leave_to(engine: Engine, dtype: torch.dtype) -> Literal["auto", "openvino"] | None:
    """The engine that a small network of this precision may be left to on this machine, unread; None has it read."""
    if engine == "torch" or (engine == "auto" and not AUTO) or dtype not in TOLERANCE:
        return None
    return None if machine.version("openvino") is None else engine


def used(prior: Any) -> str:
    """What evaluates a prior's network, for records: "openvino 2026.4.1, 8 bits", "torch", or why it is torch after all."""
    from rfgs.priors.converted import in_eight_bits

    forward = (
        None if getattr(prior, "unread", False) else getattr(getattr(prior, "network", None), "forward", None)
    )
    if not getattr(prior, "unread", False) and not isinstance(forward, Forward):
        return "torch"
    if forward is not None and forward.failed:
        return f"torch ({forward.failed})"
    return f"openvino {machine.version('openvino')}" + ", 8 bits" * in_eight_bits(prior.dtype)


def warmup(model: str = "tiny-sd3", views: int = 4) -> None:
    """Convert an embedded model for guided evaluations of so many views, as `rfgs generate` makes them, and keep it on disk."""
    from rfgs.priors import load_prior
    from rfgs.priors.fit import distillation_dtype

    prior: Any = load_prior(model, dtype=distillation_dtype("cpu"))
    side = prior.image_size // 8  # All autoencoders here take eight pixels for one latent.
    x = torch.zeros(2 * views, prior.network.config.in_channels, side, side)
    with torch.no_grad():
        prior.predict(x, torch.full((len(x),), 0.5), prior.embed([""] * len(x)))


def _problem(network: Any) -> str | None:
    if machine.version("openvino") is None:
        return "OpenVINO is not installed; install it with `pip install 'rfgs[openvino]'`"
    if network.device.type != "cpu" or network.dtype not in TOLERANCE:
        return "it evaluates networks on the CPU, in float32 or bfloat16; use --device cpu and --dtype auto"
    if getattr(network, "hf_quantizer", None) is not None:
        return "it does not read quantized weights; take some that are not"
    size = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    if size > LARGEST:
        return (
            f"it is used for networks of up to {LARGEST / 2**30:.0f} GiB, and this one has {size / 2**30:.1f}"
        )
    return None


class Forward:
    """In the place of a network's `forward`; see `attach`."""

    failed: str | None = None
    """Why OpenVINO is not used any more, in one line."""

    def __init__(self, network: Any, digest: str | None = None) -> None:
        functools.update_wrapper(self, network.forward)
        self._network, self._torch, self._digest = network, network.forward, digest
        self._arguments = inspect.signature(network.forward)
        # Whoever changes weights after this gets torch: what was converted is of those that there are now.
        self._weights = [*network.parameters(), *network.buffers()]
        self._state = self._state_now()
        self._converted: Any = None
        self._building = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copied network has its own weights, and so its own `forward`."""
        return MethodType(type(self._network).forward, memo[id(self._network)])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = None if self.failed else self._call(args, kwargs)
        if call is None:
            return self._torch(*args, **kwargs)
        try:
            return (self._evaluate(call),)
        except Exception as error:  # Whatever goes wrong in there must not end a run.
            self._give_up(error)
            return self._torch(*args, **kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The evaluation, if it is one for OpenVINO."""
        if torch.is_grad_enabled() or _adapted(self._network) or self._state_now() != self._state:
            return None
        return Call.of(self._arguments.bind(*args, **kwargs).arguments)

    def _evaluate(self, call: Call) -> Tensor:
        threads = min(torch.get_num_threads(), usable())
        with self._building:
            if self._converted is None:
                from rfgs.priors.converted import Converted, digest_of

                digest = self._digest or digest_of(self._network)
                self._converted = Converted(lambda: self._network, digest, self._network.dtype)
            program, new = self._converted.program(call, threads)
        if new:
            self._check(program, call.with_noise())
        return program(call).to(self._network.dtype)

    def _check(self, program: Callable[[Call], Tensor], call: Call) -> None:
        """Compares what was compiled just now with torch, once for each size on each machine."""
        out = program(call)
        expected = self._torch(**call.tensors, **call.rest)[0].float()
        error = float(
            (out - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp(min=1e-12)
        )
        if not error <= TOLERANCE[self._network.dtype]:
            self._converted.forget(call)
            raise ValueError(f"the converted network is off by {error:.1g} of its output")

    def _give_up(self, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        self.failed = reason
        print(
            f"rfgs: OpenVINO cannot evaluate this model ({reason}); going on with torch",
            file=sys.stderr,
            flush=True,
        )

    def _state_now(self) -> list[tuple[int, int]]:
        return [(weight.data_ptr(), weight._version) for weight in self._weights]


def _adapted(network: Any) -> bool:
    """Whether a LoRA on the network is switched on."""
    if not getattr(network, "peft_config", None):
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = (module for module in network.modules() if isinstance(module, BaseTunerLayer))
    return any(not layer.disable_adapters for layer in layers)
