"""Other web pages cannot reach a page of ours: by plain connections that say what browsers say, and in a browser."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import viser
import websockets
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from rfgs.errors import UserError
from rfgs.viewer import Viewer
from rfgs.viewer.same_origin import as_origin, is_loopback, refusal
from tests.viewer.chromium import Chromium
from tests.viewer.plain_client import connect_to


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer(port=0) as viewer:
        yield viewer


def port_of(viewer: Viewer) -> int:
    return urlsplit(viewer.url).port or 0


def answered(viewer: Viewer, host: str, origin: str | None) -> bool:
    """Whether the page sends anything to a connection that asks for `host` out of a page at `origin`."""
    try:
        address = f"http://{host}/?{urlsplit(viewer.url).query}"
        with connect_to(address, origin=origin, through=port_of(viewer)) as connection:
            return bool(connection.recv(timeout=60))
    except InvalidStatus as refused:
        assert refused.response.status_code == 403
        return False


def test_programs_and_our_own_pages_are_answered(viewer: Viewer) -> None:
    port = port_of(viewer)
    assert answered(viewer, f"127.0.0.1:{port}", None)
    assert answered(viewer, f"127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    assert answered(viewer, "localhost:9000", "http://localhost:9000")  # Through `ssh -L 9000:localhost:...`.


def test_other_web_pages_are_refused(viewer: Viewer, capfd: pytest.CaptureFixture[str]) -> None:
    host = f"127.0.0.1:{port_of(viewer)}"
    for origin in (
        "http://evil.example",
        "http://127.0.0.1:1",
        "http://localhost",
        "https://127.0.0.1",
        "null",
    ):
        assert not answered(viewer, host, origin), origin
    assert not viewer.watched and viewer.problems == []
    assert capfd.readouterr() == ("", "")


def test_a_web_site_that_takes_our_address_is_refused(viewer: Viewer) -> None:
    """DNS rebinding: the browser believes that the page and the server are of one site."""
    port = port_of(viewer)
    assert not answered(viewer, f"evil.example:{port}", f"http://evil.example:{port}")
    request = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    request.request("GET", "/", headers={"Host": f"evil.example:{port}"})
    answer = request.getresponse()
    assert answer.status == 403 and b"at localhost" in answer.read()


def fetched(viewer: Viewer, path: str, cookie: str = "") -> http.client.HTTPResponse:
    request = http.client.HTTPConnection("127.0.0.1", port_of(viewer), timeout=60)
    request.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    answer = request.getresponse()
    answer.read()
    return answer


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_who_has_no_token_sees_nothing(host: str) -> None:
    with Viewer(host, port=0) as viewer:
        token = parse_qs(urlsplit(viewer.url).query)["token"][0]
        assert len(token) >= 32
        for path in ("/", "/?token=", f"/?token={token[:-1]}", f"/?token={token}x", f"/{token}", "/?token=é"):
            assert fetched(viewer, path.replace("é", "%C3%A9")).status == 403
        bare = viewer.url.partition("?")[0]
        for address in (bare, f"{bare}?token=wrong"):
            with pytest.raises(InvalidStatus) as refused:
                connect_to(address)
            assert refused.value.response.status_code == 403
        assert not viewer.watched


def test_a_browser_shows_the_token_as_a_cookie(viewer: Viewer) -> None:
    first = fetched(viewer, f"/?{urlsplit(viewer.url).query}")
    cookie = first.headers["Set-Cookie"]
    assert first.status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    pair = cookie.partition(";")[0]
    assert fetched(viewer, "/", f"other=1; {pair}").status == 200
    assert fetched(viewer, "/", pair + "x").status == 403
    assert fetched(viewer, "/", pair.replace("rfgs-token-", "rfgs-token-1")).status == 403
    with Viewer(port=0) as other:
        assert fetched(other, "/", pair).status == 403


def test_a_websocket_is_let_in_by_the_cookie(viewer: Viewer) -> None:
    bare, _, query = viewer.url.partition("?token=")
    cookie = {"Cookie": f"rfgs-token-{port_of(viewer)}={query}"}
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    with connect(bare.replace("http", "ws", 1), additional_headers=cookie, subprotocols=[protocol]) as socket:
        assert socket.recv(timeout=60)


def test_a_page_for_all_networks_is_for_its_own_pages() -> None:
    with Viewer("0.0.0.0", port=0) as viewer:
        assert answered(viewer, "gpu.example:8080", "http://gpu.example:8080")
        assert not answered(viewer, "gpu.example:8080", "http://evil.example")


def test_a_forwarder_is_let_in_where_it_was_named() -> None:
    """As GitHub Codespaces and nginx do by default, with Host as ours, or with Host as the browser's."""
    with Viewer(port=0, origin="https://Name.example/") as viewer:
        assert viewer.url.startswith("https://name.example/?token=")
        port = viewer._page.server.get_port()

        def let_in(host: str, origin: str | None) -> bool:
            try:
                address = f"http://{host}/?{urlsplit(viewer.url).query}"
                with connect_to(address, origin=origin, through=port) as connection:
                    return bool(connection.recv(timeout=60))
            except InvalidStatus as refused:
                assert refused.response.status_code == 403
                return False

        for host in (f"127.0.0.1:{port}", "localhost:8080", "name.example"):
            assert let_in(host, "https://name.example"), host
            assert not let_in(host, "https://evil.example"), host
        assert let_in("name.example", None) and let_in(f"127.0.0.1:{port}", None)
        assert not let_in("evil.example", "https://name.example")
        assert not let_in("name.example.evil.example", None)


def test_what_an_origin_is() -> None:
    for address, origin in (
        ("https://Name.Example", "https://name.example"),
        ("https://name.example:443/", "https://name.example"),
        ("http://name.example:8443", "http://name.example:8443"),
        ("http://[::1]:80", "http://[::1]"),
    ):
        assert as_origin(address) == origin
    for address in (
        "name.example",
        "https://",
        "ftp://a.b",
        "https://a.b/c",
        "https://a.b?c",
        "https://a.b:x",
        "null",
    ):
        with pytest.raises(UserError, match="--origin .*: is not what a browser shows before the path"):
            as_origin(address)


def test_headers_that_come_twice_are_refused() -> None:
    for headers in (
        [],
        [("Host", "localhost"), ("Host", "x")],
        [("Host", "x"), *[("Origin", "http://x")] * 2],
    ):
        assert refusal(Headers(headers), loopback_only=False)
    assert not refusal(Headers([("Host", "X:1"), ("Origin", "http://x:1")]), loopback_only=False)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_names_of_the_loopback(host: str) -> None:
    assert is_loopback(host)
    bracketed = f"[{host}]" if ":" in host else host
    for asked in (bracketed, f"{bracketed}:8080"):
        assert not refusal(Headers([("Host", asked), ("Origin", f"http://{asked}")]), loopback_only=True)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_names_of_other_things(host: str) -> None:
    assert not is_loopback(host)
    bracketed = f"[{host}]" if ":" in host else host
    assert refusal(Headers([("Host", f"{bracketed}:8080")]), loopback_only=True)


def test_a_viser_that_starts_its_server_in_another_way_gets_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    own = SimpleNamespace(
        asyncio=SimpleNamespace(server=SimpleNamespace(serve=serve)),
        datastructures=websockets.datastructures,
        exceptions=websockets.exceptions,
    )
    monkeypatch.setattr("viser.infra._infra.websockets", own)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="cannot be kept from answering other web pages"):
        Viewer(port=port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_in_a_browser(browser: Chromium, viewer: Viewer) -> None:
    """The script of one page reaches its own server, and not that of another, which differs in its port alone."""
    with Viewer(port=0) as other:
        browser.open(other.url)
        assert reaches(browser, other) and not reaches(browser, viewer)


def reaches(browser: Chromium, viewer: Viewer) -> bool:
    """Whether a script of the page that `browser` has open can connect to `viewer`."""
    address = viewer.url.replace("http", "ws", 1)
    return browser.evaluate(
        f"new Promise(tell => {{ const s = new WebSocket('{address}', 'viser-v{viser.__version__}');"
        " s.onopen = () => { s.close(); tell(true); }; s.onerror = () => tell(false); })"
    )
