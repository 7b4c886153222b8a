"""A connection as a browser makes it, without the browser: it says hello and reads what it is sent."""

from __future__ import annotations

import msgspec
import viser
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol


def connect_to(url: str) -> ClientConnection:
    """Connects to a page and reports a camera, which is when viser counts a browser as connected."""
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    socket = connect(url.replace("http", "ws", 1), subprotocols=[protocol], max_size=None, compression=None)
    hello = {
        "type": "ViewerCameraMessage",
        "wxyz": (0.5, 0.5, -0.5, -0.5),
        "position": (3.2, 0.0, 0.0),
        "fov": 0.7,
        "near": 0.01,
        "far": 1000.0,
        "image_height": 480,
        "image_width": 640,
        "look_at": (0.0, 0.0, 0.0),
        "up_direction": (0.0, 0.0, 1.0),
    }
    socket.send(msgspec.msgpack.encode(hello))
    return socket
