"""Guidance: what a prior says about an image, as a loss. One short function per equation; none knows what was rendered."""

from __future__ import annotations

from typing import Any

from rfgs.errors import UserError
from rfgs.guidance.common import Estimate, GuidanceConfig, Guide, Views, matching_loss
from rfgs.guidance.counted import Counted
from rfgs.guidance.irfds import InversionConfig, invert, irfds, noise_step
from rfgs.guidance.perp_neg import Others, perp_neg
from rfgs.guidance.rfds import RFDS, rfds
from rfgs.guidance.rfds_rev import RFDSRev, reversed_noise, rfds_rev
from rfgs.guidance.rfds_vsd import RFDSVSD, rfds_vsd
from rfgs.guidance.sds import SDS, sds
from rfgs.guidance.vsd import VSD, vsd

__all__ = [
    "GUIDES",
    "Counted",
    "Estimate",
    "GuidanceConfig",
    "Guide",
    "InversionConfig",
    "Others",
    "Views",
    "invert",
    "irfds",
    "make_guide",
    "matching_loss",
    "noise_step",
    "perp_neg",
    "reversed_noise",
    "rfds",
    "rfds_rev",
    "rfds_vsd",
    "sds",
    "vsd",
]

GUIDES: dict[str, type[Guide]] = {
    "sds": SDS,
    "vsd": VSD,
    "rfds": RFDS,
    "rfds-rev": RFDSRev,
    "rfds-vsd": RFDSVSD,
}
"""What `GuidanceConfig.guidance` may be. A guidance of your own takes part in the loops once it is put in here."""


def make_guide(name: str, prior: Any) -> Guide:
    """The guidance called `name`, at work under `prior`.

    Raises:
        UserError: there is none, or it is not defined for priors of this kind.
    """
    if name not in GUIDES:
        raise UserError(f"guidance {name!r}: there are {', '.join(GUIDES)}")
    guide = GUIDES[name]
    if guide.kind != prior.kind:
        fitting = [other for other in GUIDES if GUIDES[other].kind == prior.kind]
        what = {"flow": "a rectified flow", "diffusion": "a diffusion model"}
        raise UserError(
            f"guidance {name}: is defined for {what[guide.kind]}, and {prior.name} is {what[prior.kind]}; "
            f"take {' or '.join(fitting)}"
        )
    return guide(prior)
