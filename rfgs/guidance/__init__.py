"""Guidance: what a prior says about an image, as a loss. One short function per equation; none knows what was rendered.

Each is one file: its function, the settings that only it has, and its `Guide`, which makes it found by its name.
"""

from __future__ import annotations

from rfgs.guidance.choice import (
    as_dict,
    check_own,
    check_values,
    find_guide,
    from_dict,
    guides,
    make_guide,
    readable,
    readers,
    value_of,
)
from rfgs.guidance.common import Estimate, GuidanceConfig, Guide, Views, matching_loss, own
from rfgs.guidance.counted import Counted
from rfgs.guidance.irfds import InversionConfig, invert, irfds, noise_step
from rfgs.guidance.perp_neg import Others, perp_neg
from rfgs.guidance.rfds import rfds
from rfgs.guidance.rfds_rev import reversed_noise, rfds_rev
from rfgs.guidance.rfds_vsd import rfds_vsd
from rfgs.guidance.sds import sds
from rfgs.guidance.vsd import vsd

__all__ = [
    "Counted",
    "Estimate",
    "GuidanceConfig",
    "Guide",
    "InversionConfig",
    "Others",
    "Views",
    "as_dict",
    "check_own",
    "check_values",
    "find_guide",
    "from_dict",
    "guides",
    "invert",
    "irfds",
    "make_guide",
    "matching_loss",
    "noise_step",
    "own",
    "perp_neg",
    "readable",
    "readers",
    "reversed_noise",
    "rfds",
    "rfds_rev",
    "rfds_vsd",
    "sds",
    "value_of",
    "vsd",
]
