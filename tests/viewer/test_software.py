"""Browsers without a GPU: they say so before they are sent anything, and get pictures in place of many splats."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from rfgs.export import write_ply
from rfgs.viewer import Viewer, software, view_files
from rfgs.viewer.exhibits import FileViewer
from rfgs.viewer.software import COOKIE, MOST_SPLATS, draws_in_software, with_script
from tests.viewer.chromium import Chromium
from tests.viewer.plain_client import connect_to, next_messages, next_picture
from tests.viewer.viewer_fakes import three_balls

MANY = MOST_SPLATS + 1


def splats_told(viewer: FileViewer | Viewer, *, software: bool) -> bool:
    """Whether a browser that has just connected is sent splats, and not a picture."""
    with connect_to(viewer.url, software=software) as connection:
        while True:
            for message in next_messages(connection):
                if message["type"] == "GaussianSplatsMessage":
                    return True
                if message["type"] == "BackgroundImageMessage" and message["format"] == "jpeg":
                    return False


@pytest.mark.parametrize("packed", [True, False])
def test_the_script_comes_before_all_others(packed: bool) -> None:
    html = b"<!doctype html><html><head><script>theirs()</script></head></html>"
    headers = Headers({"Content-Type": "text/html; charset=utf-8", "Content-Length": "1"})
    if packed:
        headers["Content-Encoding"] = "gzip"
    page = with_script(Response(200, "OK", headers, gzip.compress(html) if packed else html))
    assert page.headers.get_all("Content-Length") == [str(len(page.body))]
    told = gzip.decompress(page.body) if packed else bytes(page.body)
    assert told.startswith(b"<!doctype html><html><head><script>") and told.index(b"theirs") > told.index(
        COOKIE.encode()
    )
    other = Response(200, "OK", Headers({"Content-Type": "text/css"}), b"<head>")
    assert with_script(other).body == b"<head>"


def test_only_the_cookie_says_so() -> None:
    for cookies, said in (
        ([], False),
        (["rfgs-software=0"], False),
        (["a=1; rfgs-software=1"], True),
        (["xrfgs-software=1"], False),
        (["a=1", "rfgs-software=1; b=2"], True),
    ):
        assert draws_in_software(Headers([("Cookie", one) for one in cookies])) is said


def test_many_splats_are_sent_as_pictures_to_it(tmp_path: Path) -> None:
    write_ply(three_balls(MANY), tmp_path / "many.ply")
    with view_files([tmp_path / "many.ply"], port=0) as viewer:
        assert splats_told(viewer, software=False)
        assert not viewer._page.stage.look.server_side
        assert not splats_told(viewer, software=True)
        # Also those that were there before, or nothing would be gained.
        assert viewer._page.stage._items["/files/0"].handle is None
        with connect_to(viewer.url, software=True) as connection:
            assert np.ptp(next_picture(connection), axis=-1).max() > 100
        assert viewer.problems == []


def test_few_splats_are_its_own_to_draw(tmp_path: Path) -> None:
    write_ply(three_balls(MOST_SPLATS), tmp_path / "few.ply")
    with view_files([tmp_path / "few.ply"], port=0) as viewer:
        assert splats_told(viewer, software=True)


def test_the_page_of_a_run_is_as_good() -> None:
    with Viewer(port=0) as viewer:
        with connect_to(viewer.url, software=True):
            viewer.show(three_balls(300))
            assert splats_told(viewer, software=True)
            viewer.finish([], three_balls(MANY))  # There are more of them now.
            assert not splats_told(viewer, software=True)
        assert viewer.problems == []


def test_who_wants_splats_all_the_same_gets_them(tmp_path: Path, browser: Chromium) -> None:
    write_ply(three_balls(300), tmp_path / "many.ply")
    with pytest.MonkeyPatch.context() as patched, view_files([tmp_path / "many.ply"], port=0) as viewer:
        patched.setattr("rfgs.viewer.page.MOST_SPLATS", 299)  # So that a test is not kept waiting.
        browser.open(viewer.url)
        browser.wait_text("These are pictures drawn by rfgs")
        red, green, blue = browser.wait_colors([(238, 352), (478, 322), (320, 142)])
        assert (red.argmax(), green.argmax(), blue.argmax()) == (0, 1, 2)
        assert viewer._page.stage._items["/files/0"].handle is None
        browser.unfold()
        browser.click_switch("Drawn by rfgs")
        browser.wait_for("!document.body.innerText.includes('These are pictures drawn by rfgs')")
        browser.wait_colors([(238, 352), (478, 322), (320, 142)])
        browser.open(viewer.url)  # What was chosen stays so.
        browser.wait_text("300 splats")
        assert viewer._page.stage._items["/files/0"].handle is not None
        assert "These are pictures" not in browser.text()
    assert browser.evaluate("document.cookie").count(f"{software.COOKIE}=1") == 1
