"""How a setting is declared: once, in a dataclass, with its help and its range. No torch here.

    @dataclass
    class Config:
        inner_steps: int = setting(1, "Steps that look for the noise of each view.", least=1)

All that reads settings is made from such declarations: flags and `--set`, their checks, the Steer panel, `rfgs settings`.
A field without `setting` is one too, without a range and help. What is given, anywhere, is a dictionary of values by name.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rfgs.errors import UserError

D = TypeVar("D")

LARGEST = 2**63
"""Whole numbers of any length can be typed, and what counts with them has 64 bits."""


@dataclass(frozen=True)
class Setting:
    """One setting, as it was declared."""

    name: str
    type: Any
    """bool, int, float, str, a Literal of words, or a pair of floats, the smaller one first; any of these may be optional."""
    default: Any
    help: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    multiple: int | None = None
    """What a whole number has to be a multiple of."""
    example: Any = None
    """A value to propose to who gave one that does not fit; None proposes the default."""
    common: bool = False
    """Whether it is a flag of its own; all others are given by `--set`."""
    usual: str = ""
    """What it comes to where nobody gives it, if not the default: "the model's own"."""
    steer: bool | tuple[float, float] = False
    """Whether the page offers it while a run goes on, with the ends of its slider, if it is to have one."""

    @property
    def base(self) -> Any:
        """The type without None."""
        if get_origin(self.type) in (Union, types.UnionType):
            return next(part for part in get_args(self.type) if part is not type(None))
        return self.type

    @property
    def choices(self) -> tuple[str, ...]:
        """The words to choose from; empty where it is no choice."""
        return get_args(self.base) if get_origin(self.base) is Literal else ()

    @property
    def is_pair(self) -> bool:
        return get_origin(self.base) is tuple

    def checked(self, value: Any) -> Any:
        """The value in the setting's type: whole numbers become floats where it has those, lists become pairs.

        Raises:
            Unfit: a value of another type or out of range.
        """
        if value is None and self.base is not self.type:
            return None
        base = self.base
        if self.choices:
            fits = value in self.choices
        elif self.is_pair:
            fits = isinstance(value, (list, tuple)) and len(value) == 2
            fits = fits and all(is_number(part) and self._in_range(part) for part in value)
            fits = fits and value[0] <= value[1]
            value = tuple(float(part) for part in value) if fits else value
        elif base is float:
            fits = is_number(value) and self._in_range(value)
            value = float(value) if fits else value
        elif base is int:
            fits = is_number(value) and isinstance(value, int) and self._in_range(value)
        else:
            fits = isinstance(value, base)
        if not fits:
            raise Unfit(self, value)
        return value

    def parse(self, text: str) -> Any:
        """The value that a text stands for: "3", "0.2,0.9", "true".

        Raises:
            Unfit: it stands for none that the setting can have.
        """
        base: Any = self.base
        try:
            if base is bool:
                value: Any = {"true": True, "false": False}[text.lower()]
            elif self.is_pair:
                value = tuple(float(part) for part in text.split(","))
            else:
                value = text if self.choices else base(text)
        except (ValueError, KeyError) as error:
            raise Unfit(self, text) from error
        return self.checked(value)

    def rule(self) -> str:
        """What a value has to be, such as "a whole number of at least 1"; for people."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.base is bool:
            return "true or false"
        if self.base not in (int, float) and not self.is_pair:
            return "text"
        if self.multiple:
            return f"a multiple of {self.multiple}" + (
                "" if self.least is None else f" and at least {self.least:g}"
            )
        what = "two numbers" if self.is_pair else "a whole number" if self.base is int else "a number"
        if self.least is not None:
            what += (
                f" from {self.least:g} to {self.most:g}"
                if self.most is not None
                else f" of at least {self.least:g}"
            )
        elif self.above is not None:
            what += f" above {self.above:g}" + ("" if self.most is None else f" and at most {self.most:g}")
        return what + (", the smaller one first" if self.is_pair else "")

    def _in_range(self, value: float) -> bool:
        return (
            (abs(value) < LARGEST if isinstance(value, int) else math.isfinite(value))
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (not self.multiple or value % self.multiple == 0)
        )


class Unfit(UserError):
    """A value that a setting cannot have. The command line puts its flag in the place of the name (`message`)."""

    def __init__(self, setting: Setting, value: Any) -> None:
        self.setting, self.value = setting, value
        super().__init__(self.message(f"{setting.name} ", ""))

    def message(self, before: str, again: str | None = None, example: Any = None) -> str:
        """The message with `before`, such as "--steps ", in front of the value and `again` in front of the one proposed."""
        setting, again = self.setting, before if again is None else again
        if example is None:
            example = setting.default if setting.example is None else setting.example
        if setting.multiple and isinstance(self.value, int) and abs(self.value) < LARGEST:
            least = int(setting.least or setting.multiple)
            example = max(least, setting.multiple * round(self.value / setting.multiple))
        proposal = "" if setting.choices or example is None else f"; try {again}{shown(example)}"
        return f"{before}{shown(self.value)}: has to be {setting.rule()}{proposal}"


def setting(default: Any, help: str = "", **about: Any) -> Any:
    """A dataclass's field that is a setting; `about` are fields of `Setting`, such as `least`, `common` or `steer`."""
    return field(default=default, metadata={"setting": {"help": help, **about}})


def declared(kind: type) -> dict[str, Setting]:
    """The settings of a dataclass, by name, in their order."""
    return _declared(kind)


@functools.cache
def _declared(kind: Any) -> dict[str, Setting]:
    hints = get_type_hints(kind)
    return {
        one.name: Setting(one.name, hints[one.name], one.default, **one.metadata.get("setting", {}))
        for one in fields(kind)
        if one.default is not MISSING
    }


def parse(texts: Sequence[str], known: Mapping[str, Setting]) -> dict[str, Any]:
    """What "name=value" texts, as `--set` has them, say of settings that are known.

    Raises:
        UserError: not of that form, no such setting, or a value that does not fit.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: is not NAME=VALUE")
        try:
            values[name] = find(name, known).parse(value)
        except Unfit as error:
            raise UserError(error.message(f"--set {name}=")) from error
        except UserError as error:
            raise UserError(f"--set {text}: {error}") from error
    return values


def check(values: Mapping[str, Any], known: Mapping[str, Setting]) -> dict[str, Any]:
    """The values in the types of their settings.

    Raises:
        UserError: no such setting, or a value that does not fit.
    """
    return {name: find(name, known).checked(value) for name, value in values.items()}


def find(name: str, known: Mapping[str, Setting]) -> Setting:
    """A setting by its name.

    Raises:
        UserError: there is none; it names the nearest.
    """
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "`rfgs settings` lists what there is"
        raise UserError(f"there is no setting {name}; {hint}")
    return known[name]


def assign(config: Any, values: Mapping[str, Any]) -> None:
    """Sets values, which were checked before, on a dataclass; what is none of its fields goes into its `own`."""
    for name, value in values.items():
        if name in declared(type(config)):
            setattr(config, name, value)
        else:
            config.own = {**config.own, name: value}


def shown(value: Any) -> str:
    """A value as `parse` reads it."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass
class GuidanceConfig:
    """Settings that every guidance reads, at each step afresh, and those that only some have."""

    guidance: str = setting(
        "rfds-rev", "How the model judges: a guidance's name, or module:Class of your own.", steer=True
    )
    guidance_scale: float = setting(
        4.0,
        "How strongly the prompt is enforced, without a unit: 1 is not at all, higher is stricter and more saturated.",
        least=0,
        example=7.5,
        common=True,
        usual="the model's own",
        steer=(1, 40),
    )
    """s of v_null + s (v_text - v_null)."""
    negative_prompt: str = setting(
        "",
        'What views should not look like; "" is nothing.',
        common=True,
        usual="the model's own",
        steer=True,
    )
    own: dict[str, Any] = field(default_factory=dict)
    """Settings that the guidance declares itself (`rfgs.guidance.Guide.settings`), by name; what is not in here has the
    default that is declared there."""
