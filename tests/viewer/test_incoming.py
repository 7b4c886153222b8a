"""What a page is told by those who need not be a page of ours: nothing of it ends, changes or fills anything."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from rfgs.distill.settings import DistillConfig
from rfgs.viewer import Viewer
from rfgs.viewer.incoming import LARGEST_MESSAGE, MOST_CONNECTIONS, fit
from tests.viewer.plain_client import connect_to, look_from, next_messages, next_picture
from tests.viewer.viewer_fakes import FakePrior, fake_distill

CAMERA: dict[str, Any] = {
    "type": "ViewerCameraMessage",
    "wxyz": [1.0, 0, 0, 0],
    "position": [3.0, 0, 0],
    "look_at": [0, 0, 0],
    "up_direction": [0, 0, 1],
    "fov": 0.7,
    "near": 0.01,
    "far": 1000,
    "image_height": 480,
    "image_width": 640,
}
NAN, INF = float("nan"), float("inf")
BAD_CAMERAS = [
    {"fov": 0},
    {"fov": 4},
    {"fov": "wide"},
    {"wxyz": [0, 0, 0, 0]},
    {"wxyz": [NAN, 0, 0, 1]},
    {"wxyz": [1, 0, 0]},
    {"position": [INF, 0, 0]},
    {"position": [1e30, 0, 0]},
    {"position": None},
    {"look_at": [0, 0, NAN]},
    {"near": NAN},
    {"image_height": 0},
    {"image_width": -1},
    {"image_width": 10**9},
    {"more": 1},
]
NO_MESSAGES: list[Any] = [
    b"",
    b"\xc1",
    b"\x91" * 100_000,
    "text",
    msgspec.msgpack.encode([1, 2]),
    {},
    {"type": 7},
    {"type": "Nothing"},
    {"type": "ShareUrlRequest"},
    {"type": "FileTransferStartUpload", "source_component_uuid": "x", "part_count": 10**9},
    {"type": "GuiFormSubmitMessage", "uuid": "x"},
    {"type": "ViewerCameraMessage"},
]
BAD_VALUES: dict[str, list[Any]] = {
    "Prompt strength": ["strong", -1.0, NAN, [1, 2]],
    "Inner steps": [10**6, -1, NAN, "many", [1, 2]],
    "Pace of places": [1e30, NAN, -1.0, "fast"],
    "Noise, at the start": [[0.1, 0.5, 0.9], [0.9, 0.1], [NAN, 1.0], 0.5, "ab"],
    "Method": ["sds", "nothing", 3],
    "Pixels": [10**6, 0, -5],
    "Splat size": [0.0, 1e30, NAN],
    "Show": ["Nothing"],
    "Look": ["Behind"],
    "Background": [[300, 0, 0], [-1, 0, 0], [1, 2], [1, 2, 3, 4]],
}


def encoded(message: Any) -> Any:
    return msgspec.msgpack.encode(message) if isinstance(message, dict) else message


def inputs(connection: ClientConnection, wanted: set[str]) -> dict[str, str]:
    """The names that messages call inputs by, by their labels."""
    found: dict[str, str] = {}
    while wanted - found.keys():
        for message in next_messages(connection, 8.0):
            label = message.get("props", {}).get("label") if isinstance(message.get("props"), dict) else None
            if label in wanted and "uuid" in message:
                found[label] = message["uuid"]
    return found


def test_what_a_page_of_ours_sends_fits() -> None:
    assert fit(encoded(CAMERA))
    for value in (True, 3, 0.5, "a red cube", [0.1, 0.9]):
        assert fit(encoded({"type": "GuiUpdateMessage", "uuid": "x", "updates": {"value": value}}))


@pytest.mark.parametrize("change", BAD_CAMERAS, ids=str)
def test_cameras_that_cannot_be_rendered_do_not_fit(change: dict[str, Any]) -> None:
    assert not fit(encoded({**CAMERA, **change}))


def test_other_properties_of_an_input_do_not_fit() -> None:
    for updates in ({"update_cb": []}, {"value": 1, "removed": True}, {}, {"value": {}}, {"value": None}):
        assert not fit(encoded({"type": "GuiUpdateMessage", "uuid": "x", "updates": updates}))


def test_wrong_messages_change_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """More than forty of them, to a run that goes on: it is the same afterwards, and others see its pictures."""
    config, before = DistillConfig(steps=25, resolution=64), DistillConfig(steps=25, resolution=64)
    with Viewer(port=0, server_render=True) as viewer:
        viewer.start(config, FakePrior())
        for step in fake_distill(3, seconds=0):
            viewer.update(step)
        look = viewer._page.stage.state()[1:]
        with connect_to(viewer.url) as connection:
            names = inputs(connection, set(BAD_VALUES))
            for message in [*NO_MESSAGES, *({**CAMERA, **change} for change in BAD_CAMERAS)]:
                connection.send(encoded(message))
            for label, values in BAD_VALUES.items():
                for value in values:
                    update = {"type": "GuiUpdateMessage", "uuid": names[label], "updates": {"value": value}}
                    connection.send(encoded(update))
            connection.send(encoded({"type": "GuiUpdateMessage", "uuid": "none", "updates": {"value": 1}}))
            told = ""
            while "noise_range" not in told or "cannot be set here" not in told:
                told += "".join(
                    str(one)
                    for one in next_messages(connection, 8.0)
                    if one["type"] == "NotificationShowMessage"
                )
            connection.send(encoded({**CAMERA, "image_width": 200 * 160, "image_height": 160}))
            assert next_picture(connection).shape == (48, 64, 3)
        for step in fake_distill(3, seconds=0):
            viewer.update(step)
        with connect_to(viewer.url, azimuth=90) as other:
            assert next_picture(other).shape == (48, 64, 3)
        assert viewer.changes == [] and config == before and viewer.problems == []
        assert viewer._page.stage.state()[1:] == look
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err + printed.out and "rror" not in printed.err + printed.out


def test_a_long_message_ends_its_own_connection_only() -> None:
    with Viewer(port=0) as viewer, connect_to(viewer.url) as other:
        with connect_to(viewer.url) as connection:
            connection.send(b"x" * (LARGEST_MESSAGE + 1))
            with pytest.raises(ConnectionClosed):
                while True:
                    connection.recv(timeout=60)
        look_from(other, 90)
        assert other.recv(timeout=60) and viewer.problems == []


def test_who_says_much_is_heard_later() -> None:
    with Viewer(port=0) as viewer, connect_to(viewer.url) as connection:
        start = time.monotonic()
        for _ in range(600):
            connection.send(encoded(CAMERA))
        # The pong comes at once; what was said is heard at the rate that is allowed: the last after a second.
        connection.send(encoded({**CAMERA, "position": [5.0, 0, 0]}))
        while not any(
            client.camera.position[0] == 5 for client in viewer._page.server.get_clients().values()
        ):
            assert time.monotonic() < start + 60
            time.sleep(0.02)
        assert time.monotonic() - start > 0.9


def test_there_is_an_end_to_browsers() -> None:
    with Viewer(port=0) as viewer:
        connections = [connect_to(viewer.url) for _ in range(MOST_CONNECTIONS)]
        for connection in connections:
            connection.recv(timeout=60)
        with pytest.raises(ConnectionClosed), connect_to(viewer.url) as late:
            late.recv(timeout=60)
        for connection in connections:
            connection.close()
