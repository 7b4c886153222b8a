"""What stands in the scene while it is packed: nobody waits, and the newest wins."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import viser

from rfgs.viewer import stage as stage_module
from rfgs.viewer.packing import pack
from rfgs.viewer.server import open_server, stop_server
from rfgs.viewer.stage import Stage
from tests.viewer.viewer_fakes import three_balls


@pytest.fixture
def server() -> Iterator[viser.ViserServer]:
    server = open_server("127.0.0.1", 0, title="test")
    yield server
    stop_server(server)


def test_nobody_waits_for_the_packing_and_the_newest_is_shown(
    server: viser.ViserServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing, go_on = threading.Event(), threading.Event()

    def slow(splats, scale):
        if len(splats) == 10:
            packing.set()
            assert go_on.wait(30)
        return pack(splats, scale)

    monkeypatch.setattr(stage_module, "pack", slow)
    stage, newest = Stage(server), three_balls(20)
    stage.put("/asset", three_balls(10))
    first = threading.Thread(target=stage.draw, daemon=True)
    first.start()
    assert packing.wait(30)
    free = threading.Event()

    def others() -> None:
        stage.put("/asset", newest)
        assert stage.splats() is not None and stage.state()
        free.set()

    threading.Thread(target=others, daemon=True).start()
    assert free.wait(30)  # While the first is still being packed.
    second = threading.Thread(target=stage.draw, daemon=True)
    second.start()
    second.join(0.2)
    go_on.set()
    for thread in (first, second):
        thread.join(30)
    item = stage._items["/asset"]
    assert item.drawn == (newest, 1.0) and item.handle is not None
    assert len(item.handle.buffer) == 20


def test_what_stands_there_already_is_no_news(server: viser.ViserServer) -> None:
    stage, splats = Stage(server), three_balls(10)
    stage.put("/asset", splats)
    state = stage.state()
    stage.put("/asset", splats)
    assert stage.state() == state
    stage.put("/asset", splats, (0.0, 1.0, 0.0))
    assert stage.state() != state
