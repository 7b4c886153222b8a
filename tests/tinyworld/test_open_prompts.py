"""The set of open prompts: every kind alone, and scenes of which no look is ever shown in training."""

from __future__ import annotations

from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.language import parse, vocabulary
from rfgs.tinyworld.prompts import FOLDER, OPEN, open_prompts, prompt_sets


def test_every_kind_alone_and_scenes_in_turns() -> None:
    prompts = open_prompts()
    meanings = [parse(prompt) for prompt in prompts]
    assert len(set(prompts)) == len(prompts) == 2 * len(KINDS)
    assert {meaning.things[0].kind for meaning in meanings[::2]} == set(KINDS)
    assert all(len(m.things) == 1 and not m.ground and not m.things[0].size for m in meanings[::2])
    assert all(meaning.ground for meaning in meanings[1::4])
    assert all(meaning.relation for meaning in meanings[3::4])


def test_no_color_is_said_and_no_look_of_a_scene_is_shown_in_training() -> None:
    for prompt in open_prompts():
        assert all(said.color is said.finish is None for said in parse(prompt).things)
        assert set(prompt.split()) <= set(vocabulary())
    for prompt in open_prompts()[1::2]:
        assert all(look.held_out for look in parse(prompt).looks())


def test_the_file_holds_them() -> None:
    assert (FOLDER / "open.txt").read_text().splitlines() == open_prompts() == prompt_sets()[OPEN]
