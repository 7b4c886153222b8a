"""`rfgs warmup`: compile now what would otherwise be compiled during the first run."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass
class Warmup:
    """Compile the rendering kernels, once, so that the first run does not have to.

    Where OpenVINO is installed, the embedded model is converted for it too. The results are cached on disk; a second
    call takes a few seconds.
    """

    def run(self) -> None:
        """Reports on stderr what is being compiled."""
        from rfgs.models import machine
        from rfgs.render import warmup

        warmup(lambda message: print(message, file=sys.stderr, flush=True))
        if machine.version("openvino") is not None:
            from rfgs.priors.engine import warmup as convert

            convert()
