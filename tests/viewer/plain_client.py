"""A connection as a browser makes it, without the browser: it says hello and reads what it is sent."""

from __future__ import annotations

import io
from socket import create_connection

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


def connect_to(
    url: str, *, azimuth: float = 0.0, origin: str | None = None, through: int | None = None
) -> ClientConnection:
    """Connects to a page and reports a camera, which is when viser counts a browser as connected.

    Args:
        origin: of the web page that connects, which a browser tells; a program has none.
        through: port of this machine that is really connected to, whatever `url` says.
    """
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    socket = connect(
        url.replace("http", "ws", 1),
        subprotocols=[protocol],
        origin=None if origin is None else Origin(origin),
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


def next_picture(socket: ClientConnection, timeout: float = 60.0) -> np.ndarray:
    """The next picture that was rendered for this connection, float [48, 64, 3], 0 to 255.

    A message is the length of its content before and after compression (8 bytes each), then the content; the pictures
    rendered here are the background images in JPEG.
    """
    while True:
        frame = socket.recv(timeout=timeout)
        length = int.from_bytes(frame[8:16], "little")
        content = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(frame[16 : 16 + length]))
        for message in content["messages"]:
            if message["type"] == "BackgroundImageMessage" and message["format"] == "jpeg":
                picture = Image.open(io.BytesIO(message["rgb_data"]))
                return np.asarray(picture.convert("RGB").resize((64, 48))).astype(float)
