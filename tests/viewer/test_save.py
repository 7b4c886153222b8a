"""Files that a browser asks for, sent to it and to nobody else."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import zstandard
from websockets.sync.client import ClientConnection

from rfgs.export import FORMATS, comments_of, read_ply
from rfgs.viewer import Viewer
from rfgs.viewer.save_panel import SavePanel
from tests.viewer.plain_client import connect_to
from tests.viewer.viewer_fakes import three_balls


class Buttons:
    """As much of viser's `GuiApi` as the panel takes, and a way to press its buttons."""

    def __init__(self) -> None:
        self.pressed: dict[str, Any] = {}

    def add_folder(self, label: str, **_: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def add_html(self, content: str) -> SimpleNamespace:
        return SimpleNamespace(content=content)

    def add_button(self, label: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(on_click=lambda callback: self.pressed.__setitem__(label, callback))


def received_file(connection: ClientConnection) -> bytes:
    """The content of the next file that is sent to a connection."""
    parts: dict[int, bytes] = {}
    count = None
    while count is None or len(parts) < count:
        frame = connection.recv(timeout=60)
        length = int.from_bytes(frame[8:16], "little")
        content = zstandard.ZstdDecompressor().decompress(frame[16 : 16 + length])
        for message in msgspec.msgpack.decode(content)["messages"]:
            if message["type"].startswith("FileTransferStart"):
                count = message["part_count"]
            elif message["type"] == "FileTransferPart":
                parts[message["part_index"]] = message["content"]
    return b"".join(parts[index] for index in sorted(parts))


@pytest.mark.parametrize(
    ("label", "start"), [("Splats (.ply)", b"ply\n"), ("Web page (.html)", b"<!doctype")]
)
def test_a_file_is_sent_to_the_browser_that_asked(label: str, start: bytes, tmp_path: Any) -> None:
    with Viewer(port=0) as viewer:
        page, buttons = viewer._page, Buttons()
        page.stage.put("/asset", three_balls(90))
        lines = ["prompt: three balls", "seed: 7"]
        SavePanel(buttons, page.stage, page.report, "three-balls", of_run=True, comments=lines)  # type: ignore[arg-type]
        with connect_to(viewer.url) as connection:
            deadline = time.monotonic() + 300
            while not (clients := page.server.get_clients()) and time.monotonic() < deadline:
                time.sleep(0.02)
            (client,) = clients.values()
            assert len(buttons.pressed) == len(FORMATS)
            buttons.pressed[label](SimpleNamespace(client=client))
            content = received_file(connection)
        assert content[: len(start)].lower() == start and viewer.problems == []
        if label.endswith("(.ply)"):
            (tmp_path / "sent.ply").write_bytes(content)
            assert len(read_ply(tmp_path / "sent.ply")) == 90
            assert comments_of(tmp_path / "sent.ply") == lines
        else:
            assert b'content="prompt: three balls; seed: 7"' in content
