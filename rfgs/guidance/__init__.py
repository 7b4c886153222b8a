"""Guidance: what a prior says about an image, as a loss. One short function per equation; none knows what was rendered."""

from rfgs.guidance.common import Estimate, matching_loss
from rfgs.guidance.irfds import InversionConfig, invert, irfds, noise_step
from rfgs.guidance.rfds import rfds
from rfgs.guidance.rfds_rev import reversed_noise, rfds_rev

__all__ = [
    "Estimate",
    "InversionConfig",
    "invert",
    "irfds",
    "matching_loss",
    "noise_step",
    "reversed_noise",
    "rfds",
    "rfds_rev",
]
