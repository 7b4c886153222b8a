"""Steering: wishes, when they are granted, what is noted, and the panel in a browser."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from rfgs.distill.view_prompts import Prompter
from rfgs.errors import UserError
from rfgs.models.words import Knowledge
from rfgs.render.cameras import orbit
from rfgs.viewer import Change, Viewer
from rfgs.viewer.steer_panel import SteerPanel, check_text, label
from rfgs.viewer.steering import Steering
from tests.viewer.chromium import Chromium
from tests.viewer.viewer_fakes import FakeConfig, FakePrior, fake_distill


def test_wishes_are_granted_by_apply_only_and_noted() -> None:
    steering, config = Steering(), FakeConfig()
    steering.wish("guidance_scale", 10.0)
    steering.wish("guidance_scale", 12.0)
    steering.wish("negative_prompt", config.negative_prompt)
    assert config.guidance_scale == 7.5
    expected = [Change(step=31, field="guidance_scale", old=7.5, new=12.0)]
    assert steering.apply(config, 31) == expected == steering.changes
    assert config.guidance_scale == 12.0
    assert steering.apply(config, 32) == [] and len(steering.changes) == 1


def test_what_the_loop_was_started_with_is_no_change() -> None:
    steering, config = Steering(), FakeConfig()
    steering.started_with["prompt"] = "three balls"
    steering.wish("prompt", "three balls")
    steering.wish("inner_steps", 2)
    assert steering.waiting(config) == {"inner_steps": 2}
    assert [change.field for change in steering.apply(config, 5)] == ["inner_steps"] and config.prompt is None
    steering.wish("prompt", "two balls")
    assert steering.apply(config, 6) == [Change(6, "prompt", "three balls", "two balls")]
    assert steering.waiting(config) == {}


def test_a_text_is_tried_with_all_that_the_loop_will_ask_for() -> None:
    """So that big models' text encoders are loaded once, on the page's thread."""
    asked: set[str] = set()

    class Remembers(FakePrior):
        def embed(self, prompts):
            asked.update(prompts)
            return super().embed(prompts)

    remark = 'fake knows a small world only, and not the word "red"'
    assert check_text(Remembers(), "prompt", "two red cubes") == remark
    assert check_text(Remembers(), "negative_prompt", "orange") == ""
    tried, asked = asked, set()
    Prompter(Remembers())(
        "two red cubes", "orange", orbit([0, 90, 180, 270, 0], [0, 0, 0, 0, 80], 3, 40, 8, 8)
    )
    assert tried == asked and "two red cubes, overhead view" in tried


def test_a_thing_that_the_prior_has_never_seen_is_refused_and_never_embedded() -> None:
    class Embeds(FakePrior):
        def embed(self, prompts):
            raise AssertionError(prompts)

    with pytest.raises(UserError) as refused:
        check_text(Embeds(), "prompt", "two cubes on a horse")
    assert str(refused.value) == Knowledge("fake", FakePrior.vocabulary).never_seen("horse")
    said = 'fake knows a small world only, and not the words "on", "horse"'
    assert check_text(FakePrior(), "prompt", "two cubes on a horse", any_words=True) == said
    # What views should not look like may be anything.
    assert check_text(FakePrior(), "negative_prompt", "a horse").endswith('not the word "horse"')


class Input:
    """An input of the page, without the page."""

    def __init__(self, value: Any = None) -> None:
        self.value, self.content = value, ""
        self.visible, self.disabled = True, False
        self.press: Callable[[Any], None] = lambda event: None

    def on_click(self, call: Callable[[Any], None]) -> None:
        before = self.press
        self.press = lambda event: (before(event), call(event))[1]

    on_update = on_click


class Page:
    """Stands for viser's `GuiApi`: keeps the inputs by their labels, and what is shown in the order in which it was added."""

    def __init__(self) -> None:
        self.inputs: dict[str, Input] = {}
        self.shown: list[Input] = []

    def add_html(self, content: str) -> Input:
        self.shown.append(Input())
        return self.shown[-1]

    def add_folder(self, label: str, **_: Any) -> nullcontext[None]:
        return nullcontext()

    def add_text(self, label: str, value: Any = None, *, initial_value: Any = None, **_: Any) -> Input:
        return self.inputs.setdefault(label, Input(value if initial_value is None else initial_value))

    add_button = add_slider = add_multi_slider = add_dropdown = add_number = add_checkbox = add_text


def test_the_page_says_why_a_prompt_is_not_taken() -> None:
    page, steering, problems = Page(), Steering(), []
    steering.started_with["prompt"] = "two cubes"
    config = FakeConfig()
    SteerPanel(
        page,
        config,
        steering,
        lambda *problem: problems.append(problem),
        check_text=lambda field, text: check_text(FakePrior(), field, text),
    )
    button, answer = page.inputs["Apply text"], page.shown[0]

    def apply(prompt: str, negative: str = "") -> dict[str, Any]:
        page.inputs["Prompt"].value, page.inputs["What it should not be"].value = prompt, negative
        button.press(SimpleNamespace(client=None))
        return steering.waiting(config)

    refusal = html.escape(Knowledge("fake", FakePrior.vocabulary).never_seen("horse"))
    assert apply("a horse") == {} and f"<div>{refusal}</div>" in answer.content
    # The other text is taken all the same; the prompt is refused again until it is mended.
    assert apply("a horse", "orange") == {"negative_prompt": "orange"} and refusal in answer.content
    taken = {"negative_prompt": "orange", "prompt": "two blue cubes"}
    assert apply("two blue cubes", "orange") == taken
    assert (
        "small world only, and not the word &quot;blue&quot;" in answer.content
        and refusal not in answer.content
    )
    assert apply("two cubes", "orange") == {"negative_prompt": "orange"} and "<div>" not in answer.content
    assert problems == []


def no_report(where: str, problem: BaseException) -> None:
    raise AssertionError(f"{where}: {problem}")


def test_what_a_page_sends_is_checked_as_what_is_typed() -> None:
    page, steering, problems = Page(), Steering(), []
    config = FakeConfig()
    SteerPanel(page, config, steering, no_report)
    client = SimpleNamespace(add_notification=lambda title, body, **_: problems.append(body))

    def send(title: str, value: Any) -> dict[str, Any]:
        page.inputs[title].value = value
        page.inputs[title].press(SimpleNamespace(client=client))
        return steering.waiting(config)

    # The settings of all guidances for such a model are there, since one may change to them.
    assert send("Inner steps", 3) == {"inner_steps": 3} and "Pace of the LoRA" in page.inputs
    for title, value in (
        ("Inner steps", 10**6),
        ("Pace of places", float("nan")),
        ("Pace of the LoRA", 1e30),
        ("Noise, at the start", (0.1, 0.5, 0.9)),
        ("Method", "sds"),
        ("Prompt strength", -1),
    ):
        assert send(title, value) == {"inner_steps": 3}, title
        assert page.inputs[title].value != value, title
    assert (
        len(problems) == 6
        and problems[0] == "inner_steps 1000000: has to be a whole number from 1 to 1000; try 1"
    )
    steering.apply(config, 2)
    assert config.own == {"inner_steps": 3}


def test_only_what_the_guidance_reads_is_shown() -> None:
    page = Page()
    SteerPanel(page, FakeConfig(guidance="rfds-rev"), Steering(), no_report)
    lora, steps, method = (page.inputs[name] for name in ("Pace of the LoRA", "Inner steps", "Method"))
    assert steps.visible and not lora.visible
    method.value = "rfds-vsd"
    method.press(SimpleNamespace(client=None))
    assert lora.visible and not steps.visible


def test_after_the_end_nothing_is_promised() -> None:
    page, steering, config = Page(), Steering(), FakeConfig()
    panel = SteerPanel(page, config, steering, no_report)
    steering.wish("guidance_scale", 3.0)
    panel.show([])
    assert "with the next step" in page.shown[1].content
    panel.end()
    panel.show([])
    assert "with the next step" not in page.shown[1].content and "has ended" in page.shown[1].content
    assert all(one.disabled for one in page.inputs.values())


def test_labels() -> None:
    assert label("guidance_scale") == "Prompt strength"
    assert label("lr_means") == "Pace of places" and label("inner_steps") == "Inner steps"


def test_steer_in_a_browser(browser: Chromium) -> None:
    config = FakeConfig()
    with Viewer(port=0, about={"prompt": "three balls"}) as viewer:
        viewer.start(config, FakePrior())
        used: dict[int, FakeConfig] = {}

        def run() -> None:
            for step in fake_distill(100_000, config=config):
                used[step.index] = FakeConfig(**vars(config))
                viewer.update(step)
                if viewer.stop_requested:
                    break

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        browser.open(viewer.url)
        browser.wait_text("Running")
        browser.click_text("Steer")
        browser.wait_text("Prompt strength")
        browser.type_at("Prompt strength", "12.5")
        browser.wait_text("→ 12.5")
        browser.type_into("textarea", "two blue cubes")
        time.sleep(0.3)
        assert config.prompt is None  # Not before the button.
        browser.click_text("Apply text")
        browser.wait_text("→ two blue cubes")
        browser.wait_text('fake knows a small world only, and not the word "blue"')
        browser.type_into("textarea", " ")
        browser.click_text("Apply text")
        browser.wait_text("the prompt is empty")
        browser.type_into("textarea", "two zebra cubes")
        browser.click_text("Apply text")
        browser.wait_text("has never seen a zebra")
        browser.type_into("textarea", "a horse")
        browser.click_text("Apply text")
        browser.wait_text(Knowledge("fake", FakePrior.vocabulary).never_seen("horse"))
        browser.click_text("Run")
        browser.wait_text("two blue cubes")
        browser.click_text("Pause")
        browser.wait_text("Paused")
        browser.click_text("Steer")
        browser.type_into("textarea", "two orange cubes")
        browser.click_text("Apply text")
        browser.wait_text("with the next step: prompt → two orange cubes")
        assert config.prompt == "two blue cubes"
        viewer.gate.resume()
        browser.wait_text("prompt two blue cubes → two orange cubes")
        viewer.gate.stop()
        thread.join(10)
    first, second, third = viewer.changes
    assert (first.field, first.old, first.new) == ("guidance_scale", 7.5, 12.5)
    assert (second.field, second.old, second.new) == ("prompt", "three balls", "two blue cubes")
    assert (third.old, third.new) == ("two blue cubes", "two orange cubes")
    # The note names the first step that ran with the new value.
    assert used[first.step].guidance_scale == 12.5 and used[first.step - 1].guidance_scale == 7.5
    assert used[second.step].prompt == "two blue cubes" and used[second.step - 1].prompt is None
