"""Browsers come, go and die while a run is on; the run neither notices nor changes."""

from __future__ import annotations

import contextlib
import socket as sockets
import struct
import threading
import time
from collections.abc import Callable

import torch
from websockets.exceptions import ConnectionClosed

from rfgs.splats import Splats
from rfgs.viewer import Viewer
from rfgs.viewer.page import PATIENCE
from tests.viewer.chromium import EXECUTABLE, Chromium
from tests.viewer.plain_client import connect_to, messages_in
from tests.viewer.viewer_fakes import FakeConfig, FakePrior, fake_distill, three_balls


def run_until(done: Callable[[], bool], viewer: Viewer) -> Splats:
    """Runs until `done`, at least 20 steps, under the eyes of `viewer`."""
    config = FakeConfig()
    viewer.start(config, FakePrior())
    for step in fake_distill(100_000, 3000, seconds=0.005, config=config):
        viewer.update(step)
        if done() and step.index >= 20:
            break
    viewer.index = step.index  # type: ignore[attr-defined]
    return step.splats


def alone(steps: int) -> Splats:
    """The same run, unwatched, up to a step."""
    for step in fake_distill(100_000, 3000, seconds=0):
        if step.index == steps:
            return step.splats
    raise AssertionError


def same(a: Splats, b: Splats) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.parameters().values(), b.parameters().values(), strict=True)
    )


def test_fifty_connections_that_end_in_every_way() -> None:
    finished = threading.Event()
    failures: list[BaseException] = []
    with Viewer(port=0) as viewer:

        def visit() -> None:
            try:
                for number in range(50):
                    connection = connect_to(viewer.url)
                    if number % 3 != 0:
                        connection.recv(timeout=60)
                    if number % 2:
                        # Dies without a word, in the middle of what it is being sent.
                        raw = connection.socket
                        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
                        raw.shutdown(sockets.SHUT_RDWR)
                        raw.close()
                    else:
                        connection.close()
            except BaseException as failure:
                failures.append(failure)
            finished.set()

        threading.Thread(target=visit, daemon=True).start()
        splats = run_until(finished.is_set, viewer)
        deadline = time.monotonic() + 300
        while viewer.watched and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not failures and not viewer.watched
        assert viewer.problems == []
    assert same(splats, alone(viewer.index))  # type: ignore[attr-defined]


def test_a_browser_that_reads_nothing_holds_nobody_up() -> None:
    with Viewer(port=0) as viewer:
        deaf = connect_to(viewer.url)
        start = time.monotonic()
        splats = run_until(lambda: time.monotonic() - start > 2, viewer)
        # The newest wins: what waits for the deaf one is a fixed number of messages, however long the run.
        waiting = len(viewer._page.server._websock_server._broadcast_buffer.message_from_id)
        start = time.monotonic()
        run_until(lambda: time.monotonic() - start > 1, viewer)
        grown = len(viewer._page.server._websock_server._broadcast_buffer.message_from_id) - waiting
        assert grown <= 40  # A second Steer panel, and nothing for a second's splats.
        deaf.socket.shutdown(sockets.SHUT_RDWR)  # It would first have to read all that waits for it.
    assert len(splats) == 3000


def test_a_browser_killed_in_the_middle(browser: Chromium) -> None:
    assert EXECUTABLE
    with Viewer(port=0) as viewer:
        dead = threading.Event()

        def kill() -> None:
            with Chromium(coarse=True) as victim:
                victim.open(viewer.url)
                victim.wait_text("Running")
                victim.kill()
            dead.set()

        threading.Thread(target=kill, daemon=True).start()
        splats = run_until(dead.is_set, viewer)
        assert viewer.problems == []
    assert same(splats, alone(viewer.index))  # type: ignore[attr-defined]


def test_who_watches_has_the_result_before_the_page_is_gone() -> None:
    """As a command does it: it says that the run has ended, and closes at once."""
    frames: list[bytes] = []
    with Viewer(port=0) as viewer:
        connection = connect_to(viewer.url)

        def read() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    frames.append(bytes(connection.recv(timeout=60)))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_until(lambda: viewer.watched)
        for step in fake_distill(3, seconds=0):
            viewer.update(step)
        viewer.finish(["there/splats.ply"], three_balls(20_000))
    reader.join(60)
    told = "".join(str(one) for frame in frames for one in messages_in(frame))
    assert "Finished" in told and "there/splats.ply" in told
    assert max(map(len, frames)) > 20_000 * 32  # Bytes that each splat takes.


def test_a_browser_that_does_not_answer_is_not_waited_for_long() -> None:
    with Viewer(port=0) as viewer:
        deaf = connect_to(viewer.url)
        wait_until(lambda: viewer.watched)
        deaf.recv_messages.pause()  # What it is sent stays where it is.
        viewer.finish([], three_balls(20_000))
        start = time.monotonic()
    assert time.monotonic() - start < 3 * PATIENCE
    deaf.socket.close()


def wait_until(fine: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.02)
