"""A network that is not read as long as what OpenVINO made of the same bytes will do.

To read one means to import diffusers and what that brings (peft, transformers, scipy, torch's compiler), which takes longer than
all else at the start of a short run (docs/speed.md). It is read when somebody needs the network itself: for gradients, for a
LoRA, for a batch size that is new, and where OpenVINO fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rfgs.models.threads import usable
from rfgs.priors.engine import Call, Engine, attach
from rfgs.priors.parts import digest, read_json


class Unread:
    """In the place of the network in the folder `part` of the folder `source`.

    Args:
        read: reads the network, a diffusers module on the CPU.
        dtype: of its weights.
        engine: not "torch".
    """

    def __init__(
        self, read: Callable[[], Any], source: str, part: str, *, dtype: torch.dtype, engine: Engine
    ) -> None:
        self.config: Mapping[str, Any] = read_json(source, f"{part}/config.json")
        self.dtype = dtype
        self._read, self._engine, self._digest = read, engine, f"{digest(source, part)} {dtype}"
        self._module: Any = None
        self._converted: Any = None
        self._reading, self._evaluating = threading.Lock(), threading.Lock()

    @property
    def is_read(self) -> bool:
        """Whether the network has been read."""
        return self._module is not None

    def is_known(self) -> bool:
        """Whether OpenVINO has evaluated it before, so that its files are whole, and it can do without."""
        from rfgs.priors.converted import knows

        return knows(self._digest, self.dtype)

    @property
    def module(self) -> Any:
        """The network itself, read now if it was not, through OpenVINO where that can be."""
        with self._reading:
            if self._module is None:
                module = self._read()
                attach(module, self._engine, self._digest)
                self._module = module
        return self._module

    def __call__(self, **inputs: Any) -> Any:
        """As the network: the inputs by the names, and in the order, of its `forward`."""
        out = None if self.is_read or torch.is_grad_enabled() else self._without_it(inputs)
        return self.module(**inputs) if out is None else (out,)

    def _without_it(self, inputs: dict[str, Any]) -> Tensor | None:
        """The output, if OpenVINO can tell it from what is on the disk."""
        call = Call.of(inputs)
        if call is None:
            return None
        try:
            with self._evaluating:
                if self._converted is None:
                    from rfgs.priors.converted import Converted

                    self._converted = Converted(lambda: self.module, self._digest, self.dtype)
                program = self._converted.kept(call, min(torch.get_num_threads(), usable()))
            return None if program is None else program(call).to(self.dtype)
        except Exception:  # The network's own way through OpenVINO will say what is wrong.
            return None
