"""The View panel in a browser, two browsers at once, and cameras that answer while the model works."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import ClientConnection

from rfgs.viewer import Viewer
from tests.viewer.chromium import PATIENCE, Chromium
from tests.viewer.plain_client import connect_to, look_from, next_picture
from tests.viewer.viewer_fakes import fake_distill, three_balls

RED, GREEN, BLUE = (238, 352), (478, 322), (320, 142)
"""Where three_balls are in a page just opened, pixels."""


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    """A page that shows three balls."""
    with Viewer(port=0) as viewer:
        for step in fake_distill(1, seconds=0):
            step.splats.__dict__.update(three_balls(600).__dict__)
            viewer.update(step)
        yield viewer


def pixels(browser: Chromium) -> np.ndarray:
    """What the page looks like, float [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB")).astype(float)


def wait_pixels(browser: Chromium, fine, timeout: float = PATIENCE) -> np.ndarray:
    """The page's pixels, once `fine` finds them so."""
    deadline = time.monotonic() + timeout
    while not fine(seen := pixels(browser)):
        assert time.monotonic() < deadline, "the page never looked as expected"
        time.sleep(0.4)  # A picture of the page costs the machine as much as the page itself.
    return seen


def grey(seen: np.ndarray, place: tuple[int, int]) -> bool:
    """Bright, and of no color."""
    r, g, b = seen[place[1], place[0]]
    return max(r, g, b) - min(r, g, b) < 12 and r > 150


def test_what_is_seen_follows_the_panel(browser: Chromium, viewer: Viewer) -> None:
    browser.open(viewer.url)
    # Upright and from the front: red stands in front (+X), green on the right (+Y seen from +X), blue on top.
    drawn = browser.wait_colors([RED, GREEN, BLUE])
    assert [color.argmax() for color in drawn] == [0, 1, 2]
    browser.click_text("View")
    browser.unfold()

    # Training cameras: orange frusta around the object, with their pictures, gone when they are switched off.
    browser.click_switch("Training cameras")
    wait_until(lambda: len(viewer._cameras._handles) == 4)
    browser.click_switch("Training cameras")
    wait_until(lambda: not viewer._cameras._handles)

    # Alpha is rendered here, and sent as a picture in place of the splats.
    browser.choose("Show", "Alpha")
    wait_pixels(browser, lambda seen: all(grey(seen, place) for place in (RED, GREEN, BLUE)))
    browser.choose("Show", "Depth")
    wait_pixels(browser, lambda seen: not grey(seen, RED) and np.ptp(seen[GREEN[1], GREEN[0]]) > 30)
    browser.choose("Show", "RGB")
    browser.wait_colors([RED, GREEN, BLUE])

    # Server-side RGB is the same picture as the browser's own.
    browser.click_switch("Drawn by rfgs")
    wait_until(lambda: viewer._page.pictures._sent)
    time.sleep(0.5)
    sent = browser.wait_colors([RED, GREEN, BLUE])
    browser.click_switch("Drawn by rfgs")
    wait_until(lambda: not viewer._page.pictures._sent)
    time.sleep(0.5)
    places = [(slice(y - 10, y + 10), slice(x - 10, x + 10)) for x, y in (RED, GREEN, BLUE)]
    # The browser fades splats in.
    wait_pixels(
        browser,
        lambda seen: all(
            np.abs(seen[p].mean((0, 1)) - s).max() < 25 for p, s in zip(places, sent, strict=True)
        ),
    )
    browser.click_switch("Drawn by rfgs")
    wait_until(lambda: viewer._page.pictures._sent)

    # Dragging orbits: the three are somewhere else, in server-side pictures too.
    before = pixels(browser)
    browser.drag((320, 500), (480, 500))
    wait_pixels(browser, lambda seen: np.abs(seen - before)[50:550, 50:600].mean() > 10)
    browser.click_text("Front")
    browser.wait_colors([(320, 300), (474, 300), (320, 146)])

    browser.click_switch("Turntable")
    before = pixels(browser)
    wait_pixels(browser, lambda seen: np.abs(seen - before)[50:550, 50:600].mean() > 10)
    assert viewer.problems == []


def test_each_browser_has_a_camera_of_its_own(viewer: Viewer) -> None:
    """Two watch at once, with server-side pictures; one leaves, and the other goes on getting them."""
    viewer._view_panel.set_server_side(True)
    first, second = connect_to(viewer.url, azimuth=0), connect_to(viewer.url, azimuth=90)
    shown = [next_picture(first), next_picture(second)]
    assert shown[0].shape == shown[1].shape and np.abs(shown[0] - shown[1]).mean() > 5
    first.close()
    for step in fake_distill(7, seconds=0.6):  # Splats on a CPU are sent every 2.5 s at first.
        viewer.update(step)
    picture_unlike(second, shown[1])
    second.close()
    assert viewer.problems == []


def test_a_picture_does_not_wait_for_a_step(viewer: Viewer) -> None:
    """A camera that moves is answered at once, while a step takes as long as it likes."""
    viewer._view_panel.set_server_side(True)
    with connect_to(viewer.url) as browser:
        before = next_picture(browser)
        busy = threading.Event()

        def long_step() -> None:
            for step in fake_distill(2, seconds=0):
                viewer.update(step)
                busy.wait(120)  # Whatever the loop holds during a step, it holds now.

        thread = threading.Thread(target=long_step, daemon=True)
        thread.start()
        time.sleep(0.5)
        look_from(browser, 120)
        picture_unlike(browser, before)
        assert thread.is_alive()
        busy.set()
        thread.join(10)


def picture_unlike(connection: ClientConnection, before: np.ndarray) -> None:
    """Waits for a picture that shows something else; those that were on their way before may come first."""
    for _ in range(10):
        if np.abs(next_picture(connection) - before).mean() > 2:
            return
    raise AssertionError("ten pictures of the same")


def wait_until(fine, timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.05)
