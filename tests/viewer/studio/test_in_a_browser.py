"""From a prompt to an object without a terminal, as a person does it; the runs are without a model."""

from __future__ import annotations

from pathlib import Path

from rfgs.viewer.studio import Studio
from tests.viewer.chromium import Chromium
from tests.viewer.studio.fake_rfgs import END, WITH_PAGE

FRAME = "document.getElementById('frame').contentDocument"


def card(prompt: str, button: str) -> str:
    """The button of this class in the card of the run with this prompt, as JavaScript."""
    return (
        f"[...document.querySelectorAll('article')].find(e => e.querySelector('.prompt').innerText === '{prompt}')"
        f"?.querySelector('.{button}')"
    )


def test_from_a_prompt_to_an_object(browser: Chromium, tmp_path: Path) -> None:
    with Studio(tmp_path, WITH_PAGE, port=0) as studio:
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
        browser.wait_for(f"{FRAME}?.body?.innerText.includes('Running')")

        # Reloading, or closing and coming back, changes nothing, and needs no token any more.
        browser.open(studio.url.partition("?")[0])
        browser.wait_text("waits · normal, seed 0")
        browser.wait_for(f"{FRAME}?.body?.innerText.includes('Running')")
        assert studio._line.work is not None and studio._line.work.wish.prompt == "a red dog"

        # Its process is killed: the page says so, and the next run begins.
        studio._line.work.process.kill()
        browser.wait_text("Its process is gone: it was ended from outside (SIGKILL")
        browser.wait_for(f"({card('a blue cube', 'facts')})?.innerText.includes('at work')")
        browser.wait_for(f"{FRAME}?.body?.innerText.includes('Running')")

        # What is finished is shown, and can be exported.
        (tmp_path / END).write_text("a blue cube")
        browser.wait_for(f"({card('a blue cube', 'facts')})?.innerText.startsWith('finished')")
        browser.wait_for(f"{FRAME}?.body?.innerText.includes('300 splats')")
        browser.click_element(card("a blue cube", "export"))
        browser.click_element(
            "[...document.querySelectorAll('#suffixes button')].find(e => e.innerText.startsWith('.spz'))"
        )
        assert (
            browser.wait_download("a-blue-cube-0.spz").read_text() == f"made of {tmp_path / 'a-blue-cube-0'}"
        )
        browser.click_element("document.getElementById('done')")

    # Another studio finds all of it again, goes on with what was killed, and deletes what it is told to.
    with Studio(tmp_path, WITH_PAGE, port=0) as studio:
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
