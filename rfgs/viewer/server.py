"""The web server under every viewer page: address, theme, first camera."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import warnings
from collections.abc import Callable, Iterator
from math import radians
from typing import Any

import viser

from rfgs.errors import UserError
from rfgs.render.defaults import DEFAULT_FOV
from rfgs.viewer import icons
from rfgs.viewer.aim import Aim, open_at
from rfgs.viewer.same_origin import own_pages_only


def open_server(
    host: str,
    port: int,
    *,
    title: str,
    token: str | None = None,
    origin: str | None = None,
    on_software: Callable[[], object] = lambda: None,
) -> viser.ViserServer:
    """Starts serving, without printing anything.

    Args:
        host: interface to listen on; "127.0.0.1" is reachable from this machine only, "0.0.0.0" from
            everywhere.
        port: first port to try; the next free one is taken. 0 lets the system choose.
        title: shown above the panels.
        token: what an address has to have for its page to be shown (`server_url`); None makes one that nobody knows.
        origin: under which a forwarder shows the page, such as "https://name.example"; it is let in too.
        on_software: called before a browser without a GPU is sent anything.

    Raises:
        UserError: a host that is not an interface of this machine, a port out of range, or none free from it on; or
            a viser that cannot be kept from answering other web pages.
    """
    port = free_port(host, port)
    icons.read_once()
    # viser warns on stderr about messages to a browser that has just left. They cannot be avoided.
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
    with quiet_console(), own_pages_only(token or new_token(), origin, on_software) as guarded:
        server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
    if not guarded.is_set():
        stop_server(server)
        raise UserError(
            f"viewer: viser {viser.__version__} cannot be kept from answering other web pages; install viser 1.1"
        )
    # The share button would open a public tunnel to a run that anybody could then steer and stop.
    server.gui.configure_theme(
        dark_mode=True, show_logo=False, show_share_button=False, brand_color=(236, 112, 58)
    )
    server.gui.main_panel.dock_right()
    # Splats and pictures shine by themselves. viser would hide its canvas until it has unpacked a panorama to light meshes
    # by, for seconds where the browser draws in software, and draw shadows into three maps for each picture.
    server.scene.configure_environment_map(None)
    server.scene.configure_default_lights(enabled=False, cast_shadow=False)
    server.scene.set_up_direction("+z")
    server.initial_camera.fov = radians(DEFAULT_FOV)
    open_at(server, Aim())
    return server


def new_token() -> str:
    """One that nobody guesses."""
    return secrets.token_urlsafe(24)


def server_url(server: viser.ViserServer, token: str, origin: str | None = None) -> str:
    """The address of a server to click on; see `address_of`."""
    return address_of(server.get_host(), server.get_port(), token, origin)


def address_of(host: str, port: int, token: str, origin: str | None = None) -> str:
    """An address to click on, which lets in; a server on all interfaces is named by this machine's loopback.

    Args:
        origin: what a forwarder shows in the place of this machine and its port.
    """
    if origin is not None:
        return f"{origin}/?token={token}"
    if host in ("0.0.0.0", "::", ""):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}"


def deliver(server: viser.ViserServer, timeout: float) -> None:
    """Waits until all browsers have what they were sent, at most `timeout` seconds; who does not answer is left."""

    async def all_delivered() -> None:
        await asyncio.gather(*(one.delivered() for one in connections_of(server)), return_exceptions=True)

    server.flush()
    waiting = asyncio.run_coroutine_threadsafe(all_delivered(), server.get_event_loop())
    with contextlib.suppress(TimeoutError):
        waiting.result(timeout)
    waiting.cancel()


def connections_of(server: viser.ViserServer) -> list[Any]:
    """All connections, as `rfgs.viewer.incoming.Incoming`; none where viser no longer keeps them as it did."""
    return list(getattr(server._websock_server, "_live_connections", {}).values())


def stop_server(server: viser.ViserServer) -> None:
    """Closes all connections and the port, without printing anything."""
    # viser waits up to six seconds for browsers to take part in closing; a busy or sleeping one does not. There is
    # no public way to cut a connection (its `disconnect_all_clients` closes in good order too, and so does the
    # `close_timeout` of websockets where a message is stuck), and where this one is gone, it just takes those seconds.
    for connection in connections_of(server):
        with contextlib.suppress(RuntimeError):  # The loop may have ended on its own.
            server.get_event_loop().call_soon_threadsafe(connection.transport.abort)
    with quiet_console():
        server.stop()


@contextlib.contextmanager
def quiet_console() -> Iterator[None]:
    """Silences rich's global console, through which viser announces itself amid our progress bar."""
    import rich

    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def free_port(host: str, port: int) -> int:
    """The first port from `port` on that can be listened on; 0 stays 0, which lets the system choose.

    viser would look for one too, but takes any failure for a port in use, and waits for ever where it finds none.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"viewer: port {port} must lie in 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        _try_to_bind(family, kind, protocol, address)
    except OSError as error:
        raise UserError(
            f"viewer: cannot listen on host {host!r} ({error.strerror}); "
            "use 127.0.0.1 for this machine only or 0.0.0.0 for all networks"
        ) from error
    if port == 0:
        return 0
    for free in range(port, 65536):
        with contextlib.suppress(OSError):
            _try_to_bind(family, kind, protocol, (address[0], free, *address[2:]))
            return free
    raise UserError(f"viewer: no port from {port} on is free; give a smaller one, or 0 for any")


def _try_to_bind(family: int, kind: int, protocol: int, address: Any) -> None:
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: a port whose last connections are still fading counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()
