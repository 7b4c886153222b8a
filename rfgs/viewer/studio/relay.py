"""Passes a browser's request on to a page of ours that listens on this machine's loopback, and back what that answers.

So one address and one token are enough, behind `ssh -L` or another forwarder as well: the pages of runs have ports of
their own, which nobody needs to know.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from email.message import Message

from websockets.datastructures import Headers

from rfgs.viewer.software import COOKIE, draws_in_software

PASSED = (
    "Accept-Encoding",
    "Upgrade",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
)
"""Headers of a request that the page is told; it is one of this machine's programs that asks, and not the browser's page.
Of its cookies, only what it draws with."""
PATIENCE = 10.0
"""Seconds for the page to take the connection."""
CHUNK = 1 << 16


def relay(browser: socket.socket, port: int, token: str, path: str, headers: Message) -> None:
    """Asks the page on `port` for `path`, and passes bytes both ways until either side has enough.

    Args:
        browser: its connection, of which the request has been read.
        token: the page's.
        headers: the request's.

    Raises:
        OSError: nobody listens on `port` (any more).
    """
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Cookie: rfgs-token-{port}={token}"]
    if draws_in_software(Headers(list(headers.items()))):
        lines[-1] += f"; {COOKIE}=1"
    lines += [f"{name}: {headers[name]}" for name in PASSED if headers[name] is not None]
    lines.append(f"Connection: {'Upgrade' if headers['Upgrade'] else 'close'}")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as page:
        page.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        for end in (page, browser):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = threading.Thread(target=_pour, args=(browser, page), daemon=True)
        there.start()
        _pour(page, browser)
        there.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    """Passes on all bytes, and then the end: to both sides, so that the other direction ends too."""
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
