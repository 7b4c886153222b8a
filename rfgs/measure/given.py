"""Settings that are given to `rfgs bench`: of all columns, of one, and what each column reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rfgs.distill import DistillConfig
from rfgs.errors import UserError
from rfgs.guidance import readable, readers
from rfgs.measure.plan import RUN_SETTINGS, Column
from rfgs.settings import Setting
from rfgs.settings import parse as parse_values


def parse_settings(texts: Sequence[str], columns: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """Settings from "name=value" (of all columns, under "") and "COLUMN.name=value" (of one).

    Raises:
        UserError: no such setting, one that the guidance of no column or of that one reads, or a value that does not fit.
    """
    settings: dict[str, dict[str, Any]] = {}
    for text in texts:
        before, equals, value = text.partition("=")
        column, _, name = before.rpartition(".")
        asked = [one for one in columns if column in ("", one.name)]
        if not asked:
            raise UserError(f"--set {text}: {column} is not one of the columns that are run")
        known: dict[str, Setting] = {}
        for guidance in {guidance for one in asked for guidance in guidances_of(one)}:
            known |= readable(DistillConfig, guidance)
        others = readers(name)
        if name not in known and others:
            raise UserError(
                f"--set {text}: only {' and '.join(others)} can use it, and no column has that guidance"
            )
        values = parse_values([f"{name}{equals}{value}"], {**known, **RUN_SETTINGS})
        settings.setdefault(column, {}).update(values)
    return settings


def guidances_of(column: Column) -> list[str]:
    """The guidances that the runs of a column have, one after the other."""
    first = column.settings.get("guidance", column.guidance)
    return [first, *([second] if (second := column.settings.get("second_guidance")) else [])]


def with_settings(column: Column, shared: dict[str, Any], own: dict[str, Any]) -> Column:
    """A column with settings that are given for all of them, as far as its guidances read them, and for itself.

    A column's own change wins over what all are told.
    """
    read = {**RUN_SETTINGS}
    for guidance in guidances_of(replace(column, settings={**shared, **column.settings, **own})):
        read |= readable(DistillConfig, guidance)
    told = {name: value for name, value in shared.items() if name in read}
    return replace(column, settings={**told, **column.settings, **own})
