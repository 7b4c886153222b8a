"""A browser's connection, and what it may say to a page: where its camera is, and what an input was set to. All else stops here.

viser takes more than a page of ours uses: uploads of any size, a public tunnel on request, and any property of an input.
It believes numbers as they come, and one that is not finite, or a picture of a billion pixels, ends in the renderer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection

from rfgs.viewer.software import draws_in_software

LARGEST_MESSAGE = 256 * 1024
"""Bytes; the longest that a page of ours sends are texts."""
MESSAGES_PER_SECOND, BURST = 200.0, 2.0
"""By one browser, and for how many seconds it may say all at once. A camera that moves sends as often as the screen is
drawn anew; who says more is heard later."""
MOST_CONNECTIONS = 32
QUIET = 0.1
"""Seconds without a message after which none is waiting: viser collects them for a sixtieth of a second."""
FARTHEST = 1e9
"""World units, for what a camera says of places."""
LARGEST_SCREEN = 32768
"""Pixels, width or height."""
CAMERA = {
    "wxyz": 4,
    "position": 3,
    "look_at": 3,
    "up_direction": 3,
    "fov": 0,
    "near": 0,
    "far": 0,
    "image_height": 0,
    "image_width": 0,
}
"""How many numbers each field has; 0 for one that is a number itself."""


class Incoming:
    """A connection of which only what `fit` lets through is heard; in all else it is the connection itself."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._ahead = 0.0
        """The time to which the messages so far would last at the rate that is allowed."""
        self._sending = 0
        self._sent = 0.0
        """When the last message to the browser was passed on."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def recv(self) -> bytes:
        """The next message that fits."""
        while True:
            raw = await self._connection.recv()
            now = time.monotonic()
            self._ahead = max(self._ahead, now) + 1 / MESSAGES_PER_SECOND
            if self._ahead - now > BURST:
                await asyncio.sleep(self._ahead - now - BURST)
            if isinstance(raw, bytes) and fit(raw):
                return raw

    async def send(self, *args: Any, **options: Any) -> None:
        """As the connection's own; it notes when."""
        self._sending += 1
        try:
            await self._connection.send(*args, **options)
        finally:
            self._sending -= 1
            self._sent = time.monotonic()

    async def delivered(self) -> None:
        """Returns when the browser has all that viser had for it: nothing more comes, and a ping after it is answered."""
        await asyncio.sleep(QUIET)
        while self._sending or time.monotonic() - self._sent < QUIET:
            await asyncio.sleep(QUIET / 2)
        await (await self._connection.ping())


def heard_only_if_fit(
    handler: Callable[[Any], Awaitable[None]], on_software: Callable[[], object] = lambda: None
) -> Callable[[ServerConnection], Awaitable[None]]:
    """A handler for `websockets.serve` that does what the given one does, with `Incoming` connections, and not too many.

    Args:
        on_software: called, on a thread of its own, before a browser without a GPU is sent anything.
    """
    connected = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal connected
        if connected >= MOST_CONNECTIONS:
            await connection.close(1013, "too many browsers look at this page")
            return
        # A value that an input cannot take raises in viser's own task, which would print it amid the progress bar.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        connected += 1
        try:
            if connection.request is not None and draws_in_software(connection.request.headers):
                await asyncio.to_thread(on_software)
            await handler(Incoming(connection))
        finally:
            connected -= 1

    return handle


def fit(raw: bytes) -> bool:
    """Whether a message is one that a page of ours sends: a camera that can be rendered, or an input's new value."""
    try:
        message = msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    if not isinstance(message, dict):
        return False
    kind = message.pop("type", None)
    if kind == "ViewerCameraMessage":
        return message.keys() == CAMERA.keys() and _is_camera(message)
    if kind == "GuiUpdateMessage":
        updates = message.get("updates")
        return (
            message.keys() == {"uuid", "updates"}
            and isinstance(message["uuid"], str)
            and isinstance(updates, dict)
            and updates.keys() == {"value"}
            and _is_value(updates["value"])
        )
    return False


def _is_camera(camera: Mapping[str, Any]) -> bool:
    for name, count in CAMERA.items():
        numbers = camera[name] if count else [camera[name]]
        if not isinstance(numbers, list) or len(numbers) != max(count, 1):
            return False
        if not all(_is_number(number) and abs(number) <= FARTHEST for number in numbers):
            return False
    return (
        math.hypot(*camera["wxyz"]) > 1e-6
        and 1e-3 < camera["fov"] < math.pi - 1e-3
        and all(1 <= camera[side] <= LARGEST_SCREEN for side in ("image_height", "image_width"))
    )


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 4 and all(map(_is_number, value))
    return isinstance(value, (bool, str)) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
