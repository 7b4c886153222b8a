"""Which models were distilled from classifier-free guidance, told before they are loaded: by name, by folder, or by their files.

Such a model draws without guidance what its teacher drew with it. Much of it on top spoils colors and shapes.
"""

from __future__ import annotations

from pathlib import Path

from rfgs.models import catalog

KNOWN = frozenset(
    {
        "black-forest-labs/FLUX.1-dev",
        "black-forest-labs/FLUX.1-schnell",
        "black-forest-labs/FLUX.2-klein-4B",
        "black-forest-labs/FLUX.2-klein-9B",
        "stabilityai/stable-diffusion-3.5-large-turbo",
        "Tongyi-MAI/Z-Image-Turbo",
    }
)
"""Hub ids. Most of these have files like those of the model that they were made from; InstaFlow's 2-rectified flow is not among
them, since its authors and RFDS's guide it as any other."""
HIGH = 2.0
"""Guidance scale from which a user is told; 1 is none."""


def is_distilled(source: str) -> bool:
    """Whether `source` (as `rfgs.models.catalog.locate` takes it) is known to be. No network.

    A copy of a known model is told by its folder's name, as `hf download --local-dir` and the hub's cache have it.
    """
    place = catalog.locate(source)
    if place.source in KNOWN or place.about().distilled:
        return True
    parts = {part.lower() for part in Path(place.source).parts}
    return any(
        name.lower() in parts
        for hub_id in KNOWN
        for name in (hub_id.partition("/")[2], f"models--{hub_id.replace('/', '--')}")
    )


def remark(source: str, guidance_scale: float | None) -> str:
    """What is said of a guidance scale that was asked for; "" where there is nothing to say."""
    if guidance_scale is None or guidance_scale < HIGH or not is_distilled(source):
        return ""
    return (
        f"{source} was distilled, with guidance baked in: a scale of {guidance_scale:g} comes on top of that and may spoil "
        "colors and shapes; 1 is what it was made for"
    )
