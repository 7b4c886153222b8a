"""From a prompt to an object without a terminal, as a person does it; the runs are without a model."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from rfgs.export import write_ply
from rfgs.export.formats import FORMATS
from rfgs.viewer.studio import Studio
from tests.viewer.chromium import Chromium
from tests.viewer.studio.fake_rfgs import END, opened
from tests.viewer.studio.test_shelf import run_in
from tests.viewer.viewer_fakes import three_balls

FRAME = "document.getElementById('frame')"


def card(prompt: str, button: str) -> str:
    """The button of this class in the card of the run with this prompt, as JavaScript."""
    return (
        f"[...document.querySelectorAll('article')].find(e => e.querySelector('.prompt').innerText === '{prompt}')"
        f"?.querySelector('.{button}')"
    )


def download(browser: Chromium, name: str, suffix: str) -> None:
    """Has what is to be exported made in this format, and waits for it."""
    browser.click_element(
        f"[...document.querySelectorAll('#suffixes button')].find(e => e.firstChild.data === '{suffix}')"
    )
    browser.wait_download(f"{name}{suffix}")
    browser.wait_for("!document.querySelector('#suffixes button').disabled")


def all_in_place(browser: Chromium) -> bool:
    """Whether all of the studio's page and of the one in it can be read and pressed."""
    with browser.within(FRAME):
        assert browser.out_of_place() == []
    assert browser.out_of_place() == []
    return True


def keep_and_compare(browser: Chromium) -> None:
    """A run is not deleted after all, and compared with another."""
    browser.click_element(card("a red dog", "delete"))
    assert browser.out_of_place() == []
    browser.click_element("document.getElementById('no')")
    for prompt in ("a red dog", "a blue cube"):
        browser.click_element(card(prompt, "pick"))
    browser.click_text("Compare 2 side by side")
    with browser.within(FRAME):
        browser.wait_text("a-blue-cube-0")
        browser.wait_text("a-red-dog-0")


def test_from_a_prompt_to_an_object(browser: Chromium, tmp_path: Path) -> None:
    with opened(tmp_path) as studio:
        browser.open(studio.url)
        browser.wait_text("Nothing has been made yet")

        # A thing that the model has never seen is answered, and what is near is one click away.
        browser.type_into("#prompt", "a red horse")
        browser.wait_text("tiny-sd3 has never seen “horse”")
        browser.click_text("dog")
        assert browser.evaluate("document.getElementById('prompt').value") == "a red dog"
        assert studio._line.work is None and not studio._line.waiting

        # One runs, live in its own page, and the next one waits.
        browser.click_text("Go")
        browser.wait_text("step ")
        browser.type_into("#prompt", "a blue cube")
        browser.wait_text("waits · normal, seed 0")
        with browser.within(FRAME):
            browser.wait_text("Running")

        # Reloading, or closing and coming back, changes nothing, and needs no token any more.
        browser.open(studio.url.partition("?")[0])
        browser.wait_text("waits · normal, seed 0")
        with browser.within(FRAME):
            browser.wait_text("Running")
        assert studio._line.work is not None and studio._line.work.wish.prompt == "a red dog"

        # Its process is killed: the page says so, and the next run begins.
        studio._line.work.process.kill()
        browser.wait_text("Its process is gone: it was ended from outside (SIGKILL")
        browser.wait_for(f"({card('a blue cube', 'facts')})?.innerText.includes('at work')")
        with browser.within(FRAME):
            browser.wait_text("Running")

        # What is finished is shown, and can be exported.
        (tmp_path / END).write_text("a blue cube")
        browser.wait_for(f"({card('a blue cube', 'facts')})?.innerText.startsWith('finished')")
        with browser.within(FRAME):
            browser.wait_text("300 splats")
        browser.click_element(card("a blue cube", "export"))
        browser.click_element(
            "[...document.querySelectorAll('#suffixes button')].find(e => e.innerText.startsWith('.spz'))"
        )
        assert (
            browser.wait_download("a-blue-cube-0.spz").read_text() == f"made of {tmp_path / 'a-blue-cube-0'}"
        )
        browser.click_element("document.getElementById('done')")

    # Another studio finds all of it again, goes on with what was killed, and deletes what it is told to.
    with opened(tmp_path) as studio:
        browser.open(studio.url)
        browser.wait_text("its process is gone")
        (tmp_path / END).write_text("a red dog")
        browser.click_element(card("a red dog", "resume"))
        browser.wait_for(f"({card('a red dog', 'facts')})?.innerText.startsWith('finished')")
        browser.click_element(card("a blue cube", "delete"))
        browser.wait_text("Delete “a blue cube” (a-blue-cube-0) and all its files?")
        browser.click_element("document.getElementById('no')")
        assert (tmp_path / "a-blue-cube-0" / "splats.ply").exists()
        browser.click_element(card("a blue cube", "delete"))
        browser.click_element("document.getElementById('yes')")
        browser.wait_for(f"!({card('a blue cube', 'facts')})")
        assert not (tmp_path / "a-blue-cube-0").exists()


def test_steered_stopped_and_taken_away(tmp_path: Path) -> None:
    """On a desk. What of it a phone shows, and how, is below."""
    with opened(tmp_path) as studio, Chromium(1280, 860, coarse=True) as browser:
        browser.open(studio.url)
        browser.type_into("#prompt", "a red dog")
        with browser.within(FRAME):
            browser.wait_text("Running")
            assert browser.out_of_place() == []
        assert browser.out_of_place() == []
        browser.type_into("#prompt", "a blue cube")
        browser.wait_text("waits · normal, seed 0")
        assert browser.out_of_place() == []

        # Steered in its page: a number, a prompt, and one that the model does not know.
        with browser.within(FRAME):
            browser.click_text("Steer")
            browser.type_at("Prompt strength", "12")
            browser.wait_text("prompt strength 7.5 → 12.0")
            browser.type_into("textarea", "a horse")
            browser.click_text("Apply text")
            browser.wait_text("fake has never seen “horse”")
            assert browser.out_of_place() == []
            browser.type_into("textarea", "two cubes")
            browser.click_text("Apply text")
            browser.wait_text("a red dog → two cubes")
            browser.click_text("View")
            assert browser.out_of_place() == []
            browser.click_text("Save")
            assert browser.out_of_place() == []
            browser.unfold("Other formats")
            assert browser.out_of_place() == []
            browser.click_text(".spz")
        assert browser.wait_download("a-red-dog.spz").stat().st_size > 1000

        # Stopped from the studio's own button, by who presses it twice: it writes what there is, and the next one begins.
        for _ in range(2):
            browser.click_element("document.getElementById('stop')")
        browser.wait_for(f"({card('a red dog', 'facts')})?.innerText.startsWith('stopped early')")
        with browser.within(FRAME):
            browser.wait_text("a blue cube")
            browser.wait_text("Running")
        record = json.loads((tmp_path / "a-red-dog-0" / "run.json").read_text())
        assert [change["field"] for change in record["changes"]] == ["guidance_scale", "prompt"]

        # The run's own button does the same; what it wrote takes its place, and is taken away in every format.
        with browser.within(FRAME):
            browser.click_text("Stop & export")
        browser.wait_for(f"({card('a blue cube', 'facts')})?.innerText.startsWith('stopped early')")
        with browser.within(FRAME):
            browser.wait_text("300 splats")
            assert browser.out_of_place() == []
        browser.click_element(card("a red dog", "export"))
        assert browser.out_of_place() == []
        for known in FORMATS:
            download(browser, "a-red-dog-0", known.suffix)
        browser.click_element("document.getElementById('done')")
        keep_and_compare(browser)
        assert all_in_place(browser)


def test_who_types_before_the_page_knows_its_choices_waits_for_them(
    browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, known = Studio.state, threading.Event()

    def slowly(studio: Studio) -> dict[str, Any]:
        known.wait(60)
        return told(studio)

    monkeypatch.setattr(Studio, "state", slowly)
    with opened(tmp_path) as studio:
        browser.open(studio.url)
        browser.type_into("#prompt", "a red dog")
        browser.wait_for("document.getElementById('go').disabled")
        assert browser.evaluate("document.getElementById('backend').options.length") == 0
        known.set()
        browser.wait_text("step ")
        assert browser.evaluate("document.getElementById('answer').hidden")
        assert json.loads((tmp_path / "a-red-dog-0.words").read_text())[0] == "a red dog"


def test_a_result_that_opens_late_does_not_take_the_place_of_the_next_run(
    browser: Chromium, tmp_path: Path
) -> None:
    write_ply(three_balls(30), run_in(tmp_path / "a-red-dog-0", job={"prompt": "a red dog"}) / "splats.ply")
    opens = (
        "(async () => { const id = state.runs[0].id, next = {page: 'about:blank', runs: ['x'], live: true, over: true};"
        " shown = {page: 'about:blank', runs: [id], live: true, over: true};"
        " const late = open([id], BY_ITSELF); shown = next; await late; return shown === next; })()"
    )
    with opened(tmp_path) as studio:
        browser.open(studio.url)
        browser.wait_for(f"!!{card('a red dog', 'open')}")
        assert browser.evaluate(opens.replace("BY_ITSELF", "true"))
        assert not browser.evaluate(opens.replace("BY_ITSELF", "false"))  # Who asked for it sees it.


def test_the_next_run_is_shown_where_it_begins_before_the_page_asks_again(
    browser: Chromium, tmp_path: Path
) -> None:
    run_in(tmp_path / "a-red-dog-0", job={"prompt": "a red dog"})
    begins = (
        "(() => { const id = state.runs[0].id; stage.seen = 1;"
        " shown = {page: 'about:blank', runs: [id], live: true, number: 1};"
        " state.now = {number: 2, page: 'about:blank#2', run: id, stops: 0}; stage();"
        " return shown.number; })()"
    )
    with opened(tmp_path) as studio:
        browser.open(studio.url)
        browser.wait_for(f"!!{card('a red dog', 'facts')}")
        assert browser.evaluate(begins) == 2


@pytest.mark.parametrize("size", [(1280, 860), (390, 844)], ids=["desk", "phone"])
def test_another_prompt_starts_from_a_run(size: tuple[int, int], tmp_path: Path) -> None:
    old = run_in(tmp_path / "a-red-dog-0", job={"prompt": "a red dog"})
    write_ply(three_balls(30), old / "splats.ply")
    shown = "!document.getElementById('from').hidden"
    prompt = "document.getElementById('prompt').value"
    with opened(tmp_path) as studio, Chromium(*size, coarse=True) as browser:
        browser.resize(*size, phone=size[0] < 500)
        browser.open(studio.url)
        browser.click_element(card("a red dog", "restart"))
        browser.wait_text("Starts from a red dog (a-red-dog-0)")
        assert browser.evaluate(prompt) == "a red dog"
        assert browser.out_of_place() == []
        browser.click_element("document.querySelector('#from button')")
        assert not browser.evaluate(shown)

        # An unknown thing is answered as always, and the page still knows what to start from.
        browser.click_element(card("a red dog", "restart"))
        browser.evaluate("document.getElementById('prompt').value = ''")
        browser.type_into("#prompt", "a horse")
        browser.wait_text("tiny-sd3 has never seen “horse”")
        browser.click_text("dog")
        assert browser.evaluate(shown)
        browser.click_text("Go")
        browser.wait_for(f"!({shown})")
        browser.wait_text("step ")
        browser.type_into("#prompt", "a blue cube")
        browser.wait_text("waits · normal, seed 0")
        assert "from" not in browser.evaluate("document.getElementById('waiting').lastChild.innerText")
        words = json.loads((tmp_path / "a-dog-0.words").read_text())
        assert words[words.index("--start") + 1] == str(old)


PRESSED = """(e => {
  e.scrollIntoView({block: "center"});
  const box = e.getBoundingClientRect();
  return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === e;
})(document.getElementById("stop"))"""
"""Whether who presses where the Stop button is presses it."""


def test_two_browsers_at_once(browser: Chromium, tmp_path: Path) -> None:
    """A desk and a phone: what is done on one is seen on the other, and neither breaks the other."""
    with opened(tmp_path) as studio, Chromium(390, 844, coarse=True) as phone:
        both = (browser, phone)
        phone.resize(390, 844, phone=True)
        for one in both:
            one.open(studio.url)
            one.wait_text("Nothing has been made yet")
        browser.type_into("#prompt", "a red dog")
        for one in both:
            with one.within(FRAME):
                one.wait_text("Running")
        assert all_in_place(phone) and phone.evaluate(PRESSED)
        phone.type_into("#prompt", "a blue cube")
        for one in both:
            one.wait_text("waits · normal, seed 0")
        assert phone.out_of_place() == []

        # Either steers, and both see it.
        with phone.within(FRAME), browser.within(FRAME):
            for one in both:
                one.click_text("Steer")
            phone.type_at("Prompt strength", "12")
            browser.wait_text("prompt strength 7.5 → 12.0")
            phone.type_into("textarea", "a horse")
            phone.click_text("Apply text")
            phone.wait_text("fake has never seen “horse”")
            assert phone.out_of_place() == []
            browser.type_into("textarea", "two cubes")
            browser.click_text("Apply text")
            phone.wait_text("a red dog → two cubes")
            for tab in ("View", "Save"):
                phone.click_text(tab)
                assert phone.out_of_place() == []
            phone.unfold("Other formats")
            assert phone.out_of_place() == []
            phone.click_text(".spz")
        assert phone.wait_download("a-red-dog.spz").stat().st_size > 1000

        # Both stop it at the same moment, which is one wish: it writes what there is.
        for one in both:
            one.evaluate("void document.getElementById('stop').click()")
        for one in both:
            one.wait_for(f"({card('a red dog', 'facts')})?.innerText.startsWith('stopped early')")
            with one.within(FRAME):
                one.wait_text("a blue cube")
                one.wait_text("Running")
        assert (tmp_path / "a-red-dog-0" / "splats.ply").exists() and not studio._line.ended

        # One browser dies amid what it is sent; the other one and the run go on.
        phone.kill()
        with browser.within(FRAME):
            browser.click_text("Steer")
            browser.type_at("Prompt strength", "9")
            browser.wait_text("prompt strength 7.5 → 9.0")

        # Another phone comes and stops the run in its own page; what it wrote takes its place, and is taken away.
        with Chromium(390, 844, coarse=True) as other:
            other.resize(390, 844, phone=True)
            other.open(studio.url)
            with other.within(FRAME):
                other.wait_text("Running")
                other.click_text("Stop & export")
            for one in (browser, other):
                one.wait_for(f"({card('a blue cube', 'facts')})?.innerText.startsWith('stopped early')")
                with one.within(FRAME):
                    one.wait_text("300 splats")
            assert all_in_place(other)
            other.click_element(card("a red dog", "export"))
            assert other.out_of_place() == []
            high = "[...document.querySelectorAll('#suffixes button')].map(e => e.clientHeight)"
            assert len(other.evaluate(high)) == len(FORMATS) and min(other.evaluate(high)) > 20
            for known in FORMATS[:2]:  # It is sent the others no other way.
                download(other, "a-red-dog-0", known.suffix)
            other.click_element("document.getElementById('done')")
            keep_and_compare(other)
            assert all_in_place(other)

            # Two that look at the same see the same page; what one deletes is gone in the other, and cannot be exported.
            for one in (browser, other):
                one.click_element(card("a red dog", "open"))
                with one.within(FRAME):
                    one.wait_for(f"{FRAME}.contentDocument?.body?.innerText.includes('blue') === false")
                    one.wait_text("a-red-dog-0")
            other.click_element(card("a red dog", "export"))
            browser.click_element(card("a red dog", "delete"))
            browser.click_element("document.getElementById('yes')")
            other.wait_for(f"!({card('a red dog', 'facts')})")
            other.click_element(
                "[...document.querySelectorAll('#suffixes button')].find(e => e.innerText.startsWith('.spz'))"
            )
            other.wait_text("That run is not there any more")
            assert other.evaluate("document.getElementById('stage').hidden")
