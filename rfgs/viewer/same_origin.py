"""Who may talk to a page: who was told its address, with the token in it, but no other web page in the same browser.

Browsers let any web page open a websocket to any address, this machine's loopback included, and only say in the
handshake's Origin header which page it was. viser does not look at it. Without the checks here a page from anywhere
could read the prompt of a run and press its buttons. So could any program and, on a page for all networks, anybody
who finds the port: they have no token. A browser gets it once, in the printed address, and shows it from then on as a
cookie, since viser's scripts and its websocket leave out what follows the "?".
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import websockets.asyncio.server as websockets_server
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request

from rfgs.errors import UserError
from rfgs.viewer.incoming import LARGEST_MESSAGE, heard_only_if_fit
from rfgs.viewer.software import with_script

_patching = threading.Lock()  # Held while one server starts.


@contextlib.contextmanager
def own_pages_only(
    token: str, origin: str | None = None, on_software: Callable[[], object] = lambda: None
) -> Iterator[threading.Event]:
    """Lets the viser server that starts meanwhile refuse what `refusal` refuses and who has no `token`, pages and
    websockets alike, and hear of its browsers only what is `fit`.

    viser (1.1.1, the newest when this was written) passes neither `origins` nor a `process_request` of ours on to
    `websockets.serve`, which is where such a check belongs, and keeps the server that it gets to itself. Its
    `on_client_connect` comes too late: by then all that a page shows is on its way. So `websockets.serve`, which is
    public, is replaced while the server starts; nothing of viser is.

    Args:
        on_software: see `heard_only_if_fit`.

    Yields:
        An event, set once a server has started so. Where it is not, viser starts its servers in another way than it
        used to, and the one just started answers everybody.
    """
    original = websockets_server.serve
    guarded = threading.Event()

    def serve(handler: Any, host: str, *args: Any, process_request: Any = None, **options: Any) -> Any:
        guarded.set()
        options["max_size"] = LARGEST_MESSAGE
        handler = heard_only_if_fit(handler, on_software)
        return original(
            handler, host, *args, process_request=checked(process_request, host, token, origin), **options
        )

    with _patching:
        websockets_server.serve = serve  # type: ignore[assignment, misc]
        try:
            yield guarded
        finally:
            websockets_server.serve = original  # type: ignore[misc]


def checked(
    process_request: Callable[..., Any] | None, host: str, token: str, origin: str | None = None
) -> Callable[..., Any]:
    """A `process_request` for `websockets.serve` on `host` that refuses, or else does what the given one does.

    Args:
        origin: see `refusal`.
    """
    loopback_only = is_loopback(host)

    def check(connection: ServerConnection, request: Request) -> Any:
        reason = refusal(request.headers, loopback_only=loopback_only, origin=origin)
        in_address = has_token(request.path, token)
        if not reason and not in_address and not has_cookie(request.headers, token):
            reason = "this page is for who has its whole address, as it was printed, with ?token= in it"
        if reason:
            return connection.respond(HTTPStatus.FORBIDDEN, reason + "\n")
        response = process_request(connection, request) if process_request else None
        if response is not None:
            # No address that is followed from here, and no other site, gets to know the token.
            response.headers["Referrer-Policy"] = "no-referrer"
            response = with_script(response)
            if in_address:
                cookie = f"{cookie_name(request.headers)}={token}; Path=/; HttpOnly; SameSite=Strict"
                response.headers["Set-Cookie"] = cookie
        return response

    return check


def has_token(path: str, token: str) -> bool:
    """Whether the address that is asked for has the token."""
    return any(_same(given, token) for given in parse_qs(urlsplit(path).query).get("token", []))


def has_cookie(headers: Headers, token: str) -> bool:
    """Whether a browser shows the token that it was given."""
    cookies = [part.strip().partition("=") for line in headers.get_all("Cookie") for part in line.split(";")]
    return any(name == cookie_name(headers) and _same(value, token) for name, _, value in cookies)


def cookie_name(headers: Headers) -> str:
    """Of its own for each port, by which the browser knows the page: all pages of a machine share their cookies."""
    return f"rfgs-token-{urlsplit('//' + headers['Host']).netloc.rpartition(':')[2]}"


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def refusal(headers: Headers, *, loopback_only: bool, origin: str | None = None) -> str:
    """Why a request must not be answered, or "".

    Programs send no Origin. A browser sends the address of the page that asks, which must be the one
    that is asked, by the same name and port: it need not be ours, since `ssh -L` gives the port another number.

    Args:
        loopback_only: whether the server is reachable from its own machine only. It is then asked for by a name of
            the loopback. Any other name is that of a web site which has its name point here (DNS rebinding), so
            that its pages and ours have one origin.
        origin: under which a forwarder shows the page, as `as_origin` gives it. It is answered whether the forwarder
            says its own name in Host or ours, and no other name and page is for that.
    """
    hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
    if len(hosts) != 1 or len(origins) > 1:
        return "one Host and at most one Origin, please"
    asked = hosts[0].lower()
    forwarded = origin is not None and asked == urlsplit(origin).netloc
    if loopback_only and not forwarded and not is_loopback(urlsplit(f"//{asked}").hostname or ""):
        return f"this page is for its own machine, at localhost or 127.0.0.1, not at {asked}"
    if origins and origins[0].lower() != origin and urlsplit(origins[0].lower()).netloc != asked:
        return f"this page does not talk to the pages of {origins[0]}"
    return ""


def as_origin(address: str) -> str:
    """An address as browsers say whose page asks: scheme, host and port, such as "https://name.example".

    Raises:
        UserError: it is none.
    """
    try:
        parts = urlsplit(address.lower())
        usual = {"http": 80, "https": 443}[parts.scheme]
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        whole = (
            bool(host) and parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
        )
        port = "" if parts.port in (None, usual) else f":{parts.port}"
    except (KeyError, ValueError):
        whole = False
    if not whole:
        raise UserError(
            f"--origin {address}: is not what a browser shows before the path; try --origin https://name.example"
        )
    return f"{parts.scheme}://{host}{port}"


def is_loopback(host: str) -> bool:
    """Whether a host, without a port, is the loopback by its name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
