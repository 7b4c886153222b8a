"""The web server of the studio's page: requests, and whom it answers. What the page looks like is in `page/`."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from websockets.datastructures import Headers

from rfgs.errors import UserError
from rfgs.viewer.software import SCRIPT
from rfgs.viewer.studio.relay import relay
from rfgs.viewer.studio.wishes import Unknown

if TYPE_CHECKING:
    from rfgs.viewer.studio.studio import Studio

LARGEST_REQUEST = 16 * 1024
"""Bytes that a page may send at once."""
MOST_CONNECTIONS = 64
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
SAFE = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
"""With everything that is ours: no script but our file's runs, and no other site shows or hears of it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, studio: Studio, host: str, port: int) -> None:
        self.studio = studio
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((host, port), _Request)

    def server_bind(self) -> None:
        # http.server's own asks the network for this machine's name, which can take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes in the middle of something is no error, and nothing is printed amid other things."""


class _Request(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 30  # Seconds for a browser to say what it wants.
    server_version, sys_version = "rfgs", ""

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, action: Callable[[list[str]], None]) -> None:
        headers = Headers(list(self.headers.items()))
        reason = self.server.studio.refuses(headers, self.path)
        if reason:
            self.close_connection = True  # What else it sends is not read.
            self._send(HTTPStatus.FORBIDDEN, (reason + "\n").encode(), "text/plain")
            return
        try:
            action(urlsplit(self.path).path.split("/")[1:])
        except Unknown as unknown:
            told = {"problem": str(unknown), "word": unknown.word, "near": unknown.near}
            self._json(told, HTTPStatus.UNPROCESSABLE_ENTITY)
        except UserError as error:
            self._json({"problem": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
        except OSError as error:
            self.close_connection = True
            self._json({"problem": f"That did not work: {error.strerror or error}"}, HTTPStatus.BAD_GATEWAY)

    def _get(self, parts: list[str]) -> None:
        studio = self.server.studio
        match parts:
            case [""]:
                self._file("studio.html")
            case ["studio.js"] | ["studio.css"]:
                self._file(parts[0])
            case ["software.js"]:
                self._send(HTTPStatus.OK, SCRIPT.encode(), KINDS[".js"])
            case ["state"]:
                self._json(studio.state())
            case ["picture", id]:
                self._send(HTTPStatus.OK, studio.picture(id), "image/png")
            case ["export", id, suffix]:
                name, content = studio.export(id, suffix)
                how = f"attachment; filename*=UTF-8''{quote(name)}"
                self._send(HTTPStatus.OK, content, "application/octet-stream", {"Content-Disposition": how})
            case ["page", key, *rest]:
                self._relay(studio.page(key), "/" + "/".join(rest))
            case _:
                self._json({"problem": "There is nothing here"}, HTTPStatus.NOT_FOUND)

    def _post(self, parts: list[str]) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_REQUEST:
            self.close_connection = True
            raise UserError(f"More than {LARGEST_REQUEST} bytes are not read")
        content = self.rfile.read(int(length))
        # No form of another page can send this kind without asking first.
        if self.headers.get_content_type() != "application/json":
            raise UserError("That is not what this page sends")
        try:
            asked = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UserError("That is not what this page sends") from error
        if not isinstance(asked, dict) or len(parts) != 1:
            raise UserError("That is not what this page sends")
        self._json(self.server.studio.act(parts[0], asked))

    def _relay(self, address: str | None, path: str) -> None:
        self.close_connection = True
        if address is None:
            self._json({"problem": "That page is closed"}, HTTPStatus.NOT_FOUND)
            return
        asked = urlsplit(address)
        relay(self.connection, asked.port or 0, asked.query.removeprefix("token="), path, self.headers)

    def _file(self, name: str) -> None:
        content = (resources.files("rfgs.viewer.studio") / "page" / name).read_bytes()
        cookie = self.server.studio.cookie(Headers(list(self.headers.items())), self.path)
        self._send(
            HTTPStatus.OK,
            content,
            KINDS[Path(name).suffix] + "; charset=utf-8",
            {} if cookie is None else {"Set-Cookie": cookie},
        )

    def _json(self, content: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(
        self, status: HTTPStatus, content: bytes, kind: str, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**SAFE, "Content-Type": kind, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
