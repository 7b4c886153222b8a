"""Small help with viser's inputs: callbacks that cannot fail unseen, and values."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import viser

from rfgs.errors import UserError
from rfgs.viewer.background import Report, describe, in_own_thread

Pressed = Callable[[viser.GuiEvent], None]


def guarded(report: Report, where: str, *actions: Callable[[], None]) -> Pressed:
    """A callback for an input that does `actions` in turn; a problem is reported and told to who caused it."""

    def by_event(_: viser.GuiEvent) -> None:
        for action in actions:
            action()

    return guarded_event(report, where, by_event)


def guarded_event(report: Report, where: str, action: Pressed) -> Pressed:
    """As `guarded`, for one action that wants to know which browser asked."""

    def called(event: viser.GuiEvent) -> None:
        try:
            in_own_thread(lambda: action(event))
        except UserError as refused:
            # Theirs to mend who gave it, and no problem of the page.
            notify(event, where, str(refused), color="red")
        except Exception as problem:
            report(where, problem)
            notify(event, where, describe(problem), color="red")

    return called


def notify(event: viser.GuiEvent, title: str, body: str, *, color: Any = None) -> None:
    """Shows a message for some seconds in the browser that caused `event`."""
    if event.client is not None:
        event.client.add_notification(title, body, color=color, auto_close_seconds=8)


def set_value(handle: Any, value: object) -> None:
    """Shows `value` in an input of the page. (To a type checker viser's own `value` is read-only.)"""
    handle.value = value


def value_of(handle: Any) -> Any:
    """What an input of the page was set to: one of its choices, or between its ends, as in a page of ours.

    Raises:
        UserError: something else, which another program sent.
    """
    value = handle.value
    choices = getattr(handle, "options", None)
    if isinstance(value, tuple):  # A color.
        fits = len(value) == 3 and all(0 <= part <= 255 for part in value)
    elif choices is not None:
        fits = value in choices
    else:
        fits = isinstance(value, bool) or handle.min <= value <= handle.max
    if not fits:
        raise UserError(f"{handle.label}: {value!r} cannot be set here")
    return value


def small(lines: str) -> str:
    """Lines of HTML in small print; what is in them and not ours has been through `as_text`."""
    return f'<div style="padding:0.3em 0.9em;font-size:0.8em;opacity:0.8">{lines}</div>'


def as_text(words: object) -> str:
    """Words for HTML, to be read and never to be run.

    Whatever comes from outside, a file's name as well, goes through here. viser's markdown is no place for it: that
    runs the scripts it holds.
    """
    return html.escape(str(words).encode("utf-8", "replace").decode())
