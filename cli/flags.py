"""Flags: types whose default is decided later, groups that are made of settings, and what was given of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from tyro.conf import UseAppendAction, arg
from tyro.constructors import PrimitiveConstructorSpec

from rfgs.errors import UserError
from rfgs.models.places import expanded
from rfgs.runs.job import BIG_QUALITIES, QUALITIES, QualityName
from rfgs.settings import Unfit, declared, parse, shown


def _optional(parse: Callable[[str], Any], metavar: str, kind: str) -> PrimitiveConstructorSpec:
    """A flag with one value or none at all; tyro on its own would offer the word None as a value."""

    def from_text(words: list[str]) -> Any:
        try:
            return parse(words[0])
        except ValueError as error:
            raise ValueError(f"{words[0]!r} is not {kind}") from error

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=from_text,
        is_instance=lambda value: value is None or isinstance(value, (int, float, str, Path)),
        str_from_instance=lambda value: [str(value)],
    )


WholeNumber = Annotated[int | None, _optional(int, "N", "a whole number")]
Number = Annotated[float | None, _optional(float, "X", "a number")]
Folder = Annotated[Path | None, _optional(expanded, "FOLDER", "a folder")]
"""With "~" as the user's own, which a shell leaves as it is after "--output="."""
Text = Annotated[str | None, _optional(str, "TEXT", "text")]


def default(hint: str) -> Any:
    """Says in the help what a flag that is not given stands for."""
    return arg(help_behavior_hint=f"(default: {hint})")


AnyWords = Annotated[bool, arg(name="any-words")]
"""Whether a prompt may name things that the model has never seen."""


def in_paragraphs(command: type) -> None:
    """Has the flags of a command explained in whole paragraphs; tyro would break lines wherever the source does."""
    hints = get_type_hints(command, include_extras=True)
    for owner in filter(is_dataclass, command.__mro__):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for one, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(one, ast.AnnAssign)
                and isinstance(one.target, ast.Name)
                and isinstance(text, ast.Expr)
            ):
                name, said = one.target.id, ast.literal_eval(text.value)
                # The library's own dataclasses know nothing of flags.
                kind = Annotated[Text, default("none")] if hints[name] == (str | None) else hints[name]
                owner.__annotations__[name] = Annotated[kind, arg(help=" ".join(said.split()))]


Sets = Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")]
"""Any setting by its name, may be given more than once."""


def by_quality(name: str) -> str:
    """A setting's values in the presets, such as "110 draft, 420 normal, 1500 high"; "" if they say nothing of it."""

    def values(qualities: dict[QualityName, dict[str, Any]]) -> str:
        every = {settings[name] for settings in qualities.values()}
        if len(every) == 1:
            return str(every.pop())
        return ", ".join(f"{settings[name]} {quality}" for quality, settings in qualities.items())

    if not all(name in preset for preset in [*QUALITIES.values(), *BIG_QUALITIES.values()]):
        return ""
    small, big = values(QUALITIES), values(BIG_QUALITIES)
    return small if small == big else f"{small}; with big models {big}"


def flags_of(config: type, *, presets: bool = False) -> type:
    """The common settings of a configuration as a group of flags: a dataclass for a command's field.

    Args:
        presets: whether `--quality` says what comes of a flag that is not given.
    """
    flags = []
    for one in declared(config).values():
        if one.common:
            kind = {int: WholeNumber, float: Number, str: Text}.get(one.base, one.base)
            nothing = one.default if one.choices or one.base is bool else None
            hint = (by_quality(one.name) if presets else "") or one.usual or shown(one.default)
            flags.append(
                (one.name, Annotated[kind, arg(help=one.help), default(hint)], field(default=nothing))
            )
    return make_dataclass(f"{config.__name__}Flags", flags, frozen=True)


class Typed:
    """A command that knows which of its flags were typed, whatever their values."""

    typed: Sequence[str] = ()
    """Their names, as its fields have them; `rfgs.cli.main` fills it in."""
    arguments: Sequence[str] = ()
    """The whole command line, after the program's name; so is this."""


def typed(arguments: Sequence[str]) -> tuple[str, ...]:
    """The names of the flags on a command line: "--views-per-step=3" is "views_per_step", "--no-viewer" is "viewer"."""
    flags = [word.partition("=")[0] for word in arguments if word.startswith("--") and word != "--"]
    return tuple(flag[2:].replace("-", "_").removeprefix("no_") for flag in flags)


def _inner(default: Any) -> Sequence[Any]:
    return fields(default) if is_dataclass(default) else ()


def hint(command: type, arguments: Sequence[str]) -> str | None:
    """What to tell who typed a flag that there is not, but a setting of that name; None where there is nothing to tell."""
    there = {"help", "set"}
    for one in fields(command):
        there |= {one.name, *(inner.name for inner in _inner(one.default))}
    unknown = [name for name in typed(arguments) if name not in there]
    if not unknown or "set" not in {one.name for one in fields(command)}:
        return None
    from rfgs.distill.settings import DistillConfig
    from rfgs.flat.settings import ParticleConfig
    from rfgs.guidance import readers

    for name in unknown:
        if readers(name) or name in {**declared(DistillConfig), **declared(ParticleConfig)}:
            return f"--{name.replace('_', '-')}: is given as --set {name}=VALUE; `rfgs settings` lists all that can be"
    return None


def given(
    command: Any, config: type, guidance: str | None = None, *, examples: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings that were given, as flags of `command.settings` or by `--set`, which wins; checked, by name.

    Args:
        guidance: whose own settings may be among them.
        examples: values to propose in the place of those that do not fit.

    Raises:
        UserError: no such setting, one that the guidance does not read, or a value that does not fit.
    """
    values = {}
    for name, one in declared(config).items():
        if one.common and name in command.typed:
            flag = f"--{name.replace('_', '-')} "
            try:
                values[name] = one.checked(getattr(command.settings, name))
            except Unfit as error:
                raise UserError(error.message(flag, example=(examples or {}).get(name))) from error
    return {**values, **by_set(command.set, config, guidance)}


def by_set(texts: Sequence[str], config: type, guidance: str | None = None) -> dict[str, Any]:
    """What `--set` says; see `given`."""
    known = dict(declared(config))
    for text in texts:
        name = text.partition("=")[0]
        if name in ("prompt", "guidance"):
            raise UserError(f"--set {text}: {name} is given without --set, as `rfgs generate --help` shows")
        if name not in known and guidance is not None:
            # From here on torch is needed: guidances declare their own settings beside their equations.
            from rfgs.guidance import readable, readers

            known |= readable(config, guidance)
            others = readers(name)
            if name not in known and others:
                raise UserError(
                    f"--set {text}: only {' and '.join(others)} can use it; leave it out with --guidance {guidance}"
                )
    return parse(texts, known)


def set_names(texts: Sequence[str]) -> list[str]:
    """The names in `--set`."""
    return [text.partition("=")[0] for text in texts]
