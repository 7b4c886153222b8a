"""The optimization loop and what belongs to it: `distill` is a generator of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rfgs.distill.settings import DistillConfig

if TYPE_CHECKING:
    from rfgs.distill.loop import Step, distill, first_splats

__all__ = ["DistillConfig", "Step", "distill", "first_splats"]


def __getattr__(name: str) -> Any:
    # The loop needs torch, its settings do not: flags are made of them.
    if name in __all__:
        from rfgs.distill import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
