"""What may be asked for, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rfgs.errors import UserError
from rfgs.models import machine
from rfgs.viewer.studio import wishes
from rfgs.viewer.studio.wishes import Unknown, Wish, backends_here, remark_on, wish_of

GOOD: dict[str, Any] = {"prompt": " a red\n cube ", "backend": "tiny-sd3", "quality": "draft", "seed": 7}


def test_a_wish_becomes_the_flags_of_generate(tmp_path: Path) -> None:
    wish = wish_of(GOOD, ["tiny-sd3"])
    flags = ["a red cube", "--backend", "tiny-sd3", "--quality", "draft", "--seed", "7"]
    assert wish.flags("there") == [*flags, "--output", "there", "--no-open", "--port", "0"]
    start = ["--start", str(tmp_path / "a-cactus-7")]
    other = replace(wish, start="a-cactus-7").flags(str(tmp_path / "there"))
    assert other == [*flags, *start, "--output", str(tmp_path / "there"), "--no-open", "--port", "0"]
    again = Wish("x", "a red cube", resumes=True, steps=220)
    assert again.flags("there") == ["--resume", "there", "--steps", "220", "--no-open", "--port", "0"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": " "},
        {"prompt": 3},
        {"prompt": "a cube " * 100},
        {"prompt": "--model=/etc"},
        {"prompt": "a \udc80 cube"},
        {"backend": "sd3"},
        {"backend": None},
        {"backend": ["tiny-sd3"]},
        {"quality": "best"},
        {"quality": {}},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
        {"seed": 2**63},
    ],
)
def test_what_cannot_be_is_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError) as refused:
        wish_of({**GOOD, **wrong}, ["tiny-sd3"])
    assert "\n" not in str(refused.value)


def test_an_unknown_thing_is_answered_with_what_is_near() -> None:
    with pytest.raises(Unknown) as refused:
        wish_of({**GOOD, "prompt": "a red horse"}, ["tiny-sd3"])
    assert (refused.value.word, refused.value.near) == ("horse", ["dog", "cat"])
    assert "--" not in str(refused.value)  # Flags are for terminals.
    taken = wish_of({**GOOD, "prompt": "a red horse", "any_words": True}, ["tiny-sd3"])
    assert "--any-words" in taken.flags("there")
    assert remark_on(wish_of({**GOOD, "prompt": "a shiny cube"}, ["tiny-sd3"])).endswith('the word "shiny"')


def test_big_models_are_offered_where_there_is_a_gpu_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "cuda_problem", lambda: "none")
    assert "tiny-sd3" in dict(backends_here()) and "flux2-klein" not in dict(backends_here())
    for problem in ("cuda_problem", "gsplat_problem"):
        monkeypatch.setattr(wishes, problem, lambda: None)
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("a card", 24 * 2**30)])
    assert {"tiny-sd3", "flux2-klein"} <= dict(backends_here()).keys()
