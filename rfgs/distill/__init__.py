"""The optimisation loop and what belongs to it: `distill` is a generator of steps."""

from rfgs.distill.loop import DistillConfig, Step, distill

__all__ = ["DistillConfig", "Step", "distill"]
