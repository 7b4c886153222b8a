"""A connection as a browser makes it, without the browser: it says hello and reads what it is sent."""

from __future__ import annotations

import io
from socket import create_connection
from typing import Any

import msgspec
import numpy as np
import torch
import viser
import zstandard
from PIL import Image
from viser.transforms import SO3
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from rfgs.render.cameras import orbit
from rfgs.viewer.software import COOKIE


def connect_to(
    url: str,
    *,
    azimuth: float = 0.0,
    origin: str | None = None,
    through: int | None = None,
    software: bool = False,
) -> ClientConnection:
    """Connects to a page and reports a camera, which is when viser counts a browser as connected.

    Args:
        origin: of the web page that connects, which a browser tells; a program has none.
        through: port of this machine that is really connected to, whatever `url` says.
        software: whether it says, as the script in our pages does, that it has no GPU.
    """
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    socket = connect(
        url.replace("http", "ws", 1),
        subprotocols=[protocol],
        origin=None if origin is None else Origin(origin),
        additional_headers={"Cookie": f"{COOKIE}=1"} if software else None,
        sock=None if through is None else create_connection(("127.0.0.1", through)),
        max_size=None,
        compression=None,
        open_timeout=60,
        close_timeout=1,
    )
    look_from(socket, azimuth)
    return socket


def look_from(socket: ClientConnection, azimuth: float) -> None:
    """Reports a camera that looks at the origin from `azimuth` degrees, level."""
    to_world = torch.linalg.inv(orbit(azimuth, 0.0, 3.2, 40.0, 640, 480).viewmats[0].double()).numpy()
    camera = {
        "type": "ViewerCameraMessage",
        "wxyz": tuple(SO3.from_matrix(to_world[:3, :3]).wxyz.tolist()),
        "position": tuple(to_world[:3, 3].tolist()),
        "fov": 0.7,
        "near": 0.01,
        "far": 1000.0,
        "image_height": 480,
        "image_width": 640,
        "look_at": (0.0, 0.0, 0.0),
        "up_direction": (0.0, 0.0, 1.0),
    }
    socket.send(msgspec.msgpack.encode(camera))


def next_picture(socket: ClientConnection, timeout: float = 300.0) -> np.ndarray:
    """The next picture that was rendered for this connection, float [48, 64, 3], 0 to 255.

    The pictures rendered here are the background images in JPEG.
    """
    while True:
        for message in next_messages(socket, timeout):
            if message["type"] == "BackgroundImageMessage" and message["format"] == "jpeg":
                picture = Image.open(io.BytesIO(message["rgb_data"]))
                return np.asarray(picture.convert("RGB").resize((64, 48))).astype(float)


def next_messages(socket: ClientConnection, timeout: float = 300.0) -> list[dict[str, Any]]:
    """What the page says next, a few messages at a time."""
    return messages_in(socket.recv(timeout=timeout))


def messages_in(frame: Any) -> list[dict[str, Any]]:
    """A frame is the length of its messages before and after compression (8 bytes each), then these, then large arrays."""
    length = int.from_bytes(frame[8:16], "little")
    content = zstandard.ZstdDecompressor().decompress(frame[16 : 16 + length])
    return list(msgspec.msgpack.decode(content)["messages"])


def until(socket: ClientConnection, words: str) -> str:
    """All that the page says, as a text, up to a message that has these words."""
    told = ""
    while words not in told:
        told += "".join(map(str, next_messages(socket)))
    return told
