"""A dataclass out of somebody's file: values as JSON has them, each in its field's type or refused."""

from __future__ import annotations

import functools
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rfgs.errors import UserError
from rfgs.settings import is_number

D = TypeVar("D")


def of_plain(kind: type[D], values: Any) -> D:
    """A dataclass out of somebody's file: `values` by the names of its fields, each in the field's type.

    Raises:
        UserError: no such values, or not in these types; in a few words.
    """
    if not isinstance(values, dict):
        raise UserError("it is not a list of names and values")
    hints = _hints(kind)
    for name, value in values.items():
        if name not in hints or not _is_of(value, hints[name]):
            raise UserError(f"{name[:40]} is {str(value)[:40]!r}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UserError("something is missing in it") from error


def _hints(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields; to find them takes longer than to check a hundred values."""
    return _cached_hints(kind)


_cached_hints = functools.cache(get_type_hints)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value as JSON has them is of a field's type."""
    if (
        hint is Any or type(value) is hint
    ):  # The latter is most of what there is, and the rest takes ten times as long.
        return True
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is_of(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if hint is float:
        return is_number(value)
    if hint is int:
        return is_number(value) and isinstance(value, int)
    return isinstance(value, origin or hint)
