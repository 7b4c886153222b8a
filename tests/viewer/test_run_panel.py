"""What the Run panel says of a run: always what is so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rfgs.viewer import Viewer
from rfgs.viewer.gate import Gate
from rfgs.viewer.progress import Progress
from rfgs.viewer.run_panel import RunPanel
from tests.viewer.chromium import Chromium
from tests.viewer.viewer_fakes import fake_distill, three_balls


class Page:
    """As much of viser's `GuiApi` as the panel takes."""

    def add_html(self, content: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(content=content, visible=True)

    def add_progress_bar(self, value: float) -> SimpleNamespace:
        return SimpleNamespace(value=value)

    def add_button(self, label: str, *, visible: bool = True, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(label=label, visible=visible, disabled=False, on_click=lambda call: None)


def made(gate: Gate) -> RunPanel:
    return RunPanel(
        Page(),  # type: ignore[arg-type]
        gate,
        {"prompt": "a <b>cube"},
        lambda *_: None,
        lambda: None,
        go_on="rfgs generate --resume 'a b'",
        look_again="rfgs view 'a b'",
    )


def at(step: int) -> Progress:
    progress = Progress()
    if step:
        progress.add(step, 10, torch.tensor(1.0), torch.tensor(1.0), 2087)
    return progress


def test_each_state_has_its_words() -> None:
    gate = Gate()
    panel = made(gate)
    said = []

    def show(step: int) -> None:
        panel.show(at(step))
        said.append(panel._status.content.split("● ")[2].split("<")[0])

    show(0)
    show(3)
    gate.pause()
    show(3)
    gate.stop()
    show(3)
    assert panel._stop.disabled
    show(10)
    words = ["Getting ready", "Running", "Paused", "Stopping after this step, and writing what there is"]
    assert said == [*words, "Writing its files"] and panel._stop.disabled
    assert "a &lt;b&gt;cube" in panel._status.content


@pytest.mark.parametrize(
    ("step", "failed", "says", "command"),
    [
        (10, False, "Finished", "rfgs view"),
        (4, False, "Stopped early, and written", "rfgs generate --resume"),
        (4, True, "Failed", "rfgs generate --resume"),
    ],
)
def test_the_end_says_how_it_came_and_what_to_type(step: int, failed: bool, says: str, command: str) -> None:
    panel = made(Gate())
    panel.finish(at(step), ["x/splats.ply"], failed=failed)
    told = panel._status.content
    assert f"● {says}<" in told and f"{command} &#x27;a b&#x27;" in told and "x/splats.ply" in told
    assert not panel._pause.visible and not panel._stop.visible
    panel.warn("x")
    assert "the run goes on" not in panel._problem.content


def test_the_count_at_the_end_is_that_of_the_file() -> None:
    with Viewer(port=0) as viewer:
        for step in fake_distill(3, seconds=0):
            viewer.update(step)
        viewer.finish(["splats.ply"], three_balls(30))
        assert viewer._progress.rows()["splats"] == "30"


def test_what_a_run_begins_with_is_seen_at_once() -> None:
    with Viewer(port=0) as viewer:
        viewer.show(three_balls(30))
        viewer._page._jobs[0].settle(30)
        shown = viewer._page.stage.splats()
        assert shown is not None and len(shown) == 30
        viewer.update(next(fake_distill(3, seconds=0)))
        viewer._page._jobs[0].settle(30)
        shown = viewer._page.stage.splats()
        assert shown is not None and len(shown) == 300 and viewer.problems == []


def test_a_run_that_fails_says_so() -> None:
    with pytest.raises(RuntimeError), Viewer(port=0) as viewer:
        viewer.update(next(fake_distill(3, seconds=0)))
        raise RuntimeError("no more memory")
    assert viewer._failed and viewer._finished == ["no more memory"]


def test_a_page_whose_process_is_gone_says_what_to_type(browser: Chromium, tmp_path: Any) -> None:
    with Viewer(port=0, folder=tmp_path / "a run") as viewer:
        viewer.update(next(fake_distill(3, seconds=0)))
        browser.open(viewer.url)
        browser.wait_text("Running")
        assert "does not answer" not in browser.text()
        viewer._page.close()  # As a killed process does, without a word.
        browser.wait_text("The run does not answer")
        browser.wait_text(f"rfgs generate --resume '{tmp_path}/a run'")
        assert "Running" not in browser.text()
