"""What of somebody's file becomes a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from rfgs.errors import UserError
from rfgs.runs.plain import of_plain


@dataclass(frozen=True)
class Noted:
    name: str
    kind: Literal["a", "b"] = "a"
    size: int = 1
    share: float = 0.5
    note: str | None = None
    more: dict[str, int] | None = None


def test_a_dataclass_out_of_a_file_has_the_types_of_its_fields() -> None:
    noted = {"name": "x", "kind": "b", "size": 2, "share": 1, "note": None, "more": {"a": 1}}
    assert of_plain(Noted, noted) == Noted("x", "b", 2, 1, None, {"a": 1})
    for values, told in (
        ([], "not a list of names and values"),
        ({}, "something is missing"),
        ({"name": 1}, "name is '1'"),
        ({"name": "x", "kind": []}, r"kind is '\[\]'"),
        ({"name": "x", "size": True}, "size is 'True'"),
        ({"name": "x", "size": 1.5}, "size is '1.5'"),
        ({"name": "x", "share": "1"}, "share is '1'"),
        ({"name": "x", "more": []}, "more is"),
        ({"name": "x", "other": 1}, "other is '1'"),
    ):
        with pytest.raises(UserError, match=told):
            of_plain(Noted, values)
