"""Types of flags whose default is decided later, with help and errors that a person can read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from rfgs.job import BIG_QUALITIES, QUALITIES, Quality, QualityName


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
Folder = Annotated[Path | None, _optional(Path, "FOLDER", "a folder")]
Text = Annotated[str | None, _optional(str, "TEXT", "text")]


def default(hint: str) -> Any:
    """Says in the help what a flag that is not given stands for."""
    return arg(help_behavior_hint=f"(default: {hint})")


def by_quality(field: str) -> str:
    """A field's values in the presets, such as "120 draft, 300 normal, 800 high"."""

    def values(qualities: dict[QualityName, Quality]) -> str:
        return ", ".join(f"{getattr(quality, field)} {name}" for name, quality in qualities.items())

    return f"{values(QUALITIES)}; with big models {values(BIG_QUALITIES)}"
