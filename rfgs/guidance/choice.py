"""Which guidances there are, which settings each of them reads, and a configuration as one flat dictionary of settings."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from rfgs.errors import UserError
from rfgs.guidance.common import Guide
from rfgs.settings import GuidanceConfig, Setting, assign, check, declared, find

C = TypeVar("C", bound=GuidanceConfig)


@functools.cache
def guides() -> dict[str, type[Guide]]:
    """The guidances of this package, by name: each module that defines a `Guide` with a name is one."""
    found = {}
    package = importlib.import_module("rfgs.guidance")
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"rfgs.guidance.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Guide) and "name" in vars(value):
                found[value.name] = value
    return found


def find_guide(name: str) -> type[Guide]:
    """A guidance of this package by its name, or of any other by "module:Class".

    Raises:
        UserError: there is none, or it cannot be imported.
    """
    if ":" not in name:
        if name not in guides():
            raise UserError(
                f"guidance {name!r}: there are {', '.join(guides())}, and module:Class for one of your own"
            )
        return guides()[name]
    guide = import_named("guidance", name)
    if not (isinstance(guide, type) and issubclass(guide, Guide) and hasattr(guide, "kind")):
        raise UserError(f"guidance {name}: is not a subclass of rfgs.guidance.Guide that says its kind")
    return guide


def import_named(what: str, name: str) -> Any:
    """What "module:name" names, of the user's own.

    Args:
        what: it is to be, for the message.

    Raises:
        UserError: it cannot be imported.
    """
    module, _, inner = name.partition(":")
    try:
        return getattr(importlib.import_module(module), inner)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{what} {name}: cannot be imported ({error}); is its folder on PYTHONPATH?"
        ) from error


def make_guide(name: str, prior: Any) -> Guide:
    """The guidance called `name`, at work under `prior`.

    Raises:
        UserError: there is none, or it is not defined for priors of this kind.
    """
    guide = find_guide(name)
    if guide.kind != prior.kind:
        fitting = [other for other in guides() if guides()[other].kind == prior.kind]
        what = {"flow": "a rectified flow", "diffusion": "a diffusion model"}
        raise UserError(
            f"guidance {name}: is defined for {what[guide.kind]}, and {prior.name} is {what[prior.kind]}; "
            f"take {' or '.join(fitting)}"
        )
    return guide(prior)


def readable(kind: type, guidance: str) -> dict[str, Setting]:
    """The settings that a run with this guidance reads, by name: those of the dataclass `kind`, and the guidance's own.

    Raises:
        UserError: no such guidance, or one that gives a setting of its own the name of another.
    """
    guide, shared = find_guide(guidance), declared(kind)
    mine = declared(guide.settings)
    twice = mine.keys() & {field.name for field in fields(kind)}
    if twice:
        raise UserError(
            f"guidance {guidance}: its setting {min(twice)} has the name of one that all runs have"
        )
    return {**shared, **mine}


def check_values(values: Mapping[str, Any], kind: type, *guidances: str) -> dict[str, Any]:
    """Values of settings that a run with one of these guidances, or with all in turn, reads; in their types.

    Raises:
        UserError: a setting that none of them reads, or a value that does not fit.
    """
    known = {name: one for guidance in guidances for name, one in readable(kind, guidance).items()}
    for name in values:
        others = readers(name)
        if name not in known and others:
            raise UserError(
                f"{name}: only {' and '.join(others)} can use it; leave it out with guidance {' or '.join(guidances)}"
            )
    return check(values, known)


def readers(name: str) -> list[str]:
    """The guidances of this package that have a setting of this name of their own."""
    return [guidance for guidance, guide in guides().items() if name in declared(guide.settings)]


def check_own(config: GuidanceConfig) -> None:
    """That `config.own` holds settings of guidances that there are, with values that they can have.

    Those of another guidance than the one in use are let through: a run may change to it.

    Raises:
        UserError: it does not.
    """
    known = {name: one for guide in guides().values() for name, one in declared(guide.settings).items()}
    check(config.own, {**known, **declared(find_guide(config.guidance).settings)})


def value_of(config: Any, name: str) -> Any:
    """What a setting is in a configuration, whether it is a field, or in its `own`, or left to the guidance's default."""
    if name in declared(type(config)):
        return getattr(config, name)
    if name in config.own:
        return config.own[name]
    every = [find_guide(config.guidance), *guides().values()]
    return find(
        name, {n: one for guide in reversed(every) for n, one in declared(guide.settings).items()}
    ).default


def as_dict(config: GuidanceConfig) -> dict[str, Any]:
    """All settings in effect, by name, as a run's record and its checkpoint have them."""
    mine = {name: one.default for name, one in declared(find_guide(config.guidance).settings).items()}
    return {**{name: getattr(config, name) for name in declared(type(config))}, **mine, **config.own}


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """The inverse of `as_dict`.

    Raises:
        UserError: a setting that there is none of here, as from another version, or a value that does not fit.
    """
    config = kind()
    shared = declared(kind)
    assign(config, check({name: value for name, value in values.items() if name in shared}, shared))
    config.own = {name: value for name, value in values.items() if name not in shared}
    check_own(config)
    return config
