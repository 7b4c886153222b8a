"""Pages of files: what is shown of paths, where it stands, and the page in a browser."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rfgs.errors import UserError
from rfgs.export import read_ply, write_ply
from rfgs.viewer import view_files
from rfgs.viewer.exhibits import Exhibit, FileViewer, distinct_names, exhibit, view
from rfgs.viewer.share import share_page
from tests.viewer.chromium import Chromium
from tests.viewer.plain_client import connect_to, next_picture, until
from tests.viewer.viewer_fakes import three_balls


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run with snapshots of 30, 60 and 90 splats and an asset of 120."""
    folder = tmp_path / "run"
    (folder / "snapshots").mkdir(parents=True)
    for step, count in ((100, 90), (9, 30), (20, 60)):
        write_ply(three_balls(count), folder / "snapshots" / f"step-{step}.ply")
    write_ply(three_balls(120), folder / "splats.ply")
    return folder


def test_a_run_is_shown_in_order_of_time(run_folder: Path) -> None:
    run = exhibit(run_folder, "run")
    assert [name for name, _ in run.frames] == ["step 9", "step 20", "step 100", "end"]
    assert [len(run.read(index)) for index in (0, 1, 2, 3, 7)] == [30, 60, 90, 120, 120]
    assert run.steps == [9, 20, 100, 100]
    (run_folder / "run.json").write_text('{"steps_done": 110}')
    run = exhibit(run_folder, "run")
    assert run.steps == [9, 20, 100, 110]
    assert [run.frame_at(step) for step in (0, 9, 19, 20, 109, 110, 999)] == [0, 0, 0, 1, 2, 3, 3]
    assert Exhibit("file.ply", [("file.ply", Path("file.ply"))]).frame_at(20) == 0


def test_bad_paths_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "damaged.ply").write_text("no ply")
    for paths in ([], [tmp_path], [tmp_path / "absent.ply"], [tmp_path / "damaged.ply"]):
        with pytest.raises(UserError) as caught:
            view_files(paths)
        assert "\n" not in str(caught.value)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "cactus" / "splats.ply", tmp_path / "snowman" / "splats.ply"
    assert distinct_names([a]) == ["splats.ply"]
    assert distinct_names([a, tmp_path / "other.ply"]) == ["splats.ply", "other.ply"]
    assert distinct_names([a, b]) == ["cactus/splats.ply", "snowman/splats.ply"]
    # The same file twice has one name, and one that ends like another one too is told by where that begins.
    assert distinct_names([a, a]) == ["splats.ply", "splats.ply"]
    deep = tmp_path / "deep" / "cactus" / "splats.ply"
    assert distinct_names([a, deep]) == [f"{tmp_path.name}/cactus/splats.ply", "deep/cactus/splats.ply"]


def test_what_a_file_says_of_itself_is_shown(tmp_path: Path) -> None:
    write_ply(three_balls(30), tmp_path / "a.ply", comments=["prompt: a <b>red</b> mug", "seed: 7"])
    with view_files([tmp_path / "a.ply"], port=0) as viewer, connect_to(viewer.url) as connection:
        assert "prompt: a &lt;b&gt;red&lt;/b&gt; mug, seed: 7" in until(connection, "30 splats")


def test_who_asked_for_it_is_told_the_address_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ply(three_balls(30), tmp_path / "a.ply")
    monkeypatch.setattr(FileViewer, "wait", lambda self: None)
    said, opened = list[str](), list[str]()
    view([tmp_path / "a.ply"], port=0, say=said.append, on_open=opened.append)
    assert said == [f"viewer: {opened[0]} (Ctrl-C ends it)"]


SCRIPT = "<img src=x onerror=\"document.title='run'\"> `x` {1+1}"


def test_names_are_text(tmp_path: Path) -> None:
    names = [f"{SCRIPT}.ply", "\udcff\n**bold**.ply"]
    for name in names:
        write_ply(three_balls(30), tmp_path / name)
    with view_files([tmp_path / name for name in names], port=0) as viewer:
        with connect_to(viewer.url) as connection:
            sent = until(connection, "30 splats")
        viewer._page.report("x", ValueError(SCRIPT))
        assert viewer.problems
    assert "&lt;img src=x" in sent and "**bold**" in sent
    # Where it stands unchanged, in the label in the scene, it is a text and no HTML.
    assert "<img" not in sent.replace(f"'text': {SCRIPT + '.ply'!r}", "").replace("LabelMessage", "")
    assert "GuiMarkdownMessage" not in sent


def test_names_are_text_in_a_browser(browser: Chromium, tmp_path: Path) -> None:
    write_ply(three_balls(30), tmp_path / f"{SCRIPT}.ply")
    with view_files([tmp_path / f"{SCRIPT}.ply"], port=0) as viewer:
        browser.open(viewer.url)
        browser.wait_text(f"{SCRIPT}.ply: 30 splats")
        assert browser.evaluate("document.title") != "run"


def test_files_side_by_side_in_a_browser(browser: Chromium, run_folder: Path, tmp_path: Path) -> None:
    write_ply(three_balls(75), tmp_path / "other.ply")
    with view_files([tmp_path / "other.ply", run_folder], port=0) as viewer:
        browser.open(viewer.url)
        browser.wait_text("other.ply: 75 splats")
        browser.wait_text("run, end: 120 splats")
        browser.type_into("input[inputmode=decimal]", "21")
        browser.wait_text("run, step 20: 60 splats")
        browser.click_switch("Play")
        browser.wait_text("run, end: 120 splats")
        browser.click_text("Save")
        browser.click_text("Splats (.ply)")
        saved = browser.wait_download("other-run.ply")
        assert len(read_ply(saved)) == 75 + 120
        assert viewer.problems == [] and "The run goes on" not in browser.text()


def test_a_tiny_object_fills_a_page_too() -> None:
    tiny = three_balls(300)
    tiny.means, tiny.log_scales = tiny.means / 1000, tiny.log_scales - math.log(1000)
    one = Exhibit("tiny.ply", [("tiny.ply", Path("tiny.ply"))], {0: tiny})
    with FileViewer([one], "127.0.0.1", 0, server_render=False) as viewer:
        camera = viewer._page.server.initial_camera
        distance = math.dist(camera.position, camera.look_at)
        assert 1e-3 < distance < 8e-3 and camera.near < 1e-3 * distance * 10


def test_pictures_of_files_can_be_rendered_here(tmp_path: Path) -> None:
    """A browser without a GPU takes half a minute for so many splats; here they are drawn by the rasterizer."""
    write_ply(three_balls(60_000), tmp_path / "many.ply")
    with view_files([tmp_path / "many.ply"], port=0, server_render=True) as viewer:
        with connect_to(viewer.url) as connection:
            drawn = next_picture(connection)
        red, green, blue = (drawn[y, x] for x, y in ((32, 24), (48, 24), (32, 8)))
        assert (red.argmax(), green.argmax(), blue.argmax()) == (0, 1, 2) and viewer.problems == []
        assert min(map(np.ptp, (red, green, blue))) > 100


def test_a_shared_page_stands_alone(browser: Chromium, tmp_path: Path) -> None:
    page = share_page(three_balls(600), title="three <balls>")
    (tmp_path / "page.html").write_text(page)
    assert "<title>three &lt;balls&gt;</title>" in page
    browser.open((tmp_path / "page.html").as_uri())
    browser.wait_for("!!document.querySelector('canvas')")
    red, green, blue = browser.wait_colors([(405, 352), (600, 322), (480, 142)])
    assert (red.argmax(), green.argmax(), blue.argmax()) == (0, 1, 2)
