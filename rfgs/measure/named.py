"""Functions of the user's own, by the name "module:function"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rfgs.errors import UserError
from rfgs.guidance.choice import import_named


def is_named(text: str) -> bool:
    """Whether a text has the form of such a name, and is no path."""
    module, colon, function = text.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def find_function(flag: str, text: str) -> Callable[..., Any]:
    """The function that "module:function" names.

    Args:
        flag: that it was given by, for the message.

    Raises:
        UserError: there is none, or it cannot be imported.
    """
    found = import_named(flag, text)
    if not callable(found):
        raise UserError(f"{flag} {text}: is not a function")
    return found
