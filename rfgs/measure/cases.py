"""What `bench/hardware.py` measures steps of, in the order of what is worth most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Steps of one model, as a run would take them."""

    model: str
    guidance: str
    views: int
    size: int
    """Pixels."""

    @property
    def label(self) -> str:
        return f"{self.model}, {self.guidance}, {self.views} x {self.size} px"


def cases(*, small: bool) -> list[Case]:
    """The usual case of every model first, then the other numbers of views, sizes and guidances."""
    flows = ("sd3", "sd35-medium", "flux-dev", "flux2-klein", "z-image")
    size, other = (64, 32) if small else (512, 256)
    usual = [Case(name, "rfds-rev", 4, size) for name in (*flows, "instaflow")] + [
        Case("sd15", "sds", 4, size)
    ]
    more = [Case(name, "rfds-rev", views, size) for name in flows for views in (1, 8)]
    more += [Case("sd3", guidance, 4, size) for guidance in ("rfds", "rfds-vsd")]
    more += [Case("sd15", "vsd", 4, size)]
    more += [Case(name, "rfds-rev", views, other) for views in (4, 1, 8) for name in flows]
    more += [Case("flux-dev", "rfds", 4, size), Case("sd35-large", "rfds-rev", 4, size)]
    more += [Case("sd3", guidance, 4, other) for guidance in ("rfds", "rfds-vsd")]
    more += [Case("flux-dev", "rfds-vsd", 1, size)]
    return usual + more
