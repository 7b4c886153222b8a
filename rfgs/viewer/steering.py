"""What somebody steers: wishes from the page, granted between two steps, and the record of what was changed."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

from rfgs.settings import assign


@dataclass(frozen=True)
class Change:
    """One setting that was changed from the page."""

    step: int
    """The first step that ran with the new value, 1-based."""
    field: str
    old: Any
    new: Any

    def as_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return asdict(self)


class Steering:
    """Carries wishes from the page to the configuration, which only the loop's own thread changes, between steps."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.started_with: dict[str, Any] = {}
        """By field, what a None in the configuration stands for."""
        self._wishes: dict[str, Any] = {}
        self._lock = threading.Lock()  # Held for a dictionary's assignment, nothing more.

    def wish(self, field: str, value: Any) -> None:
        """Asks for a new value; a later wish for the same field replaces it."""
        with self._lock:
            self._wishes[field] = value

    def waiting(self, config: Any) -> dict[str, Any]:
        """The wishes for something new that the next step will be given, by field."""
        with self._lock:
            wishes = dict(self._wishes)
        return {field: value for field, value in wishes.items() if value != self.current(config, field)}

    def current(self, config: Any, field: str) -> Any:
        """What a field of `config` comes to."""
        from rfgs.guidance import value_of  # Of torch, which a page does not wait for.

        value = value_of(config, field)
        return self.started_with.get(field) if value is None else value

    def apply(self, config: Any, next_step: int) -> list[Change]:
        """Grants all wishes on `config`, notes them as of `next_step`, and returns the new notes."""
        if not self._wishes:
            return []
        with self._lock:
            wishes, self._wishes = self._wishes, {}
        made = []
        for field, value in wishes.items():
            old = self.current(config, field)
            if old != value:
                assign(config, {field: value})
                made.append(Change(next_step, field, old, value))
        self.changes.extend(made)
        return made
