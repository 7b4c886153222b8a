"""Which family a model is of, and so whether it is a rectified flow or a diffusion model, told before it is loaded."""

from __future__ import annotations

from rfgs.models import catalog
from rfgs.models.families import Family, Kind


def family_of(source: str) -> Family | None:
    """The family of the model `source` (as `rfgs.models.catalog.locate` takes it), by its name or else by its files.

    No network: None where neither tells, as for a hub id that no backend has.
    """
    place = catalog.locate(source)
    if place.family is not None:
        return place.family
    said = place.about()
    if said.pipeline is None:
        return None
    named = [family for family in catalog.families() if family.name == said.family]
    fitting = [family for family in catalog.families() if said.pipeline in family.pipelines]
    return next(iter(named + fitting), None)


def kind_of(source: str) -> Kind | None:
    """Whether a model is a rectified flow or a diffusion model, by its name or its files; None where neither tells."""
    family = family_of(source)
    return family.kind if family else None
