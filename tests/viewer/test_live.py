"""A run with its page: what the run sees of it, and what a person sees in a browser."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest
import torch

from rfgs.distill import DistillConfig, distill
from rfgs.errors import UserError
from rfgs.splats import Splats
from rfgs.viewer import Viewer
from rfgs.viewer.widgets import set_value
from tests.viewer.chromium import Chromium
from tests.viewer.plain_client import connect_to, next_messages
from tests.viewer.viewer_fakes import FakeConfig, FakePrior, fake_distill, three_balls


def final(steps) -> list[torch.Tensor]:
    """The parameters after the last of `steps`."""
    for step in steps:
        last = step
    return list(last.splats.parameters().values())


def test_the_next_free_port_is_taken_and_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Viewer(port=port) as viewer:
            found = urlsplit(viewer.url).port or 0
            assert viewer.url.startswith("http://127.0.0.1:") and found > port
            socket.create_connection(("127.0.0.1", found), timeout=5).close()


def test_no_port_left_is_one_line() -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # Somebody else has it, which is as good.
            taken.bind(("127.0.0.1", 65535))
            taken.listen()
        with pytest.raises(UserError, match="no port from 65535 on is free"):
            Viewer(port=65535)


@pytest.mark.parametrize(("host", "port"), [("256.1.1.1", 8080), ("192.0.2.1", 8080), ("127.0.0.1", 70000)])
def test_an_impossible_address_is_one_line(host: str, port: int) -> None:
    with pytest.raises(UserError) as caught:
        Viewer(host, port)
    assert "\n" not in str(caught.value) and (host in str(caught.value) or str(port) in str(caught.value))


def test_a_page_is_there_before_torch_is() -> None:
    script = (
        "import sys; from rfgs.viewer import Viewer; viewer = Viewer(port=0, about={'prompt': 'a fox'}); "
        "there = {'torch', 'numba', 'rfgs.guidance'} & set(sys.modules); viewer.close(); sys.exit(' '.join(there) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_browsers_light_nothing() -> None:
    """viser would hide its canvas until it has read a panorama to light meshes by, which we have none of."""
    messages: dict[str, dict] = {}
    with Viewer(port=0) as viewer, connect_to(viewer.url) as connection:
        while not {"EnvironmentMapMessage", "EnableLightsMessage"} <= messages.keys():
            messages |= {message["type"]: message for message in next_messages(connection, 60.0)}
    assert messages["EnvironmentMapMessage"]["hdri_data"] is None
    lights = messages["EnableLightsMessage"]
    assert not lights["enabled"] and not lights["cast_shadow"]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with Viewer() as viewer:
        for step in fake_distill(3, seconds=0):
            viewer.update(step)
    assert capfd.readouterr() == ("", "")


def test_a_run_is_the_same_with_a_viewer() -> None:
    alone = final(fake_distill(20, seconds=0))

    def watched():
        with Viewer() as viewer:
            for step in fake_distill(20, seconds=0):
                viewer.update(step)
                yield step

    assert all(torch.equal(a, b) for a, b in zip(alone, final(watched()), strict=True))


def test_the_real_loop_is_the_same_watched_and_steered_back_and_forth() -> None:
    """Snapshots, decoding, server-side pictures and a granted wish for what is set already change no bit."""

    def run(viewer: Viewer | None) -> Splats:
        config = DistillConfig(steps=25, resolution=64, views_per_step=2)
        prior, generator = FakePrior(), torch.Generator().manual_seed(1)
        if viewer is not None:
            viewer.start(config, prior)
            viewer.steering.wish("guidance_scale", config.guidance_scale)
        for step in distill("orange", prior, three_balls(200), config, generator=generator):
            if viewer is not None:
                viewer.update(step)
        return step.splats

    with Viewer(port=0, server_render=True) as viewer:
        with connect_to(viewer.url) as connection:
            watched = run(viewer)
            connection.recv(timeout=60)
        assert viewer.problems == [] and viewer.changes == []
    alone = run(None)
    pairs = zip(alone.parameters().values(), watched.parameters().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_problem_in_the_viewer_is_reported_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with Viewer() as viewer:
        monkeypatch.setattr(viewer._page.stage, "put", lambda *_: 1 / 0)
        for step in fake_distill(3, seconds=0):
            viewer.update(step)
        viewer.finish()
        deadline = time.monotonic() + 300
        while not viewer.problems and time.monotonic() < deadline:
            time.sleep(0.02)
        assert any("ZeroDivisionError" in line and "test_live.py" in line for line in viewer.problems)


def test_a_step_the_viewer_cannot_read_is_reported_and_the_run_goes_on() -> None:
    with Viewer() as viewer:
        viewer.update(object())
        assert "no attribute 'index'" in viewer.problems[-1]


def test_panels_that_fail_stop_no_run_and_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where the panel that tells of problems is the one that fails."""

    def run(viewer: Viewer | None) -> list[torch.Tensor]:
        config = DistillConfig(steps=8, resolution=64, views_per_step=2)
        prior, generator = FakePrior(), torch.Generator().manual_seed(1)
        if viewer is not None:
            viewer.start(config, prior)

        def steps():
            for step in distill("orange", prior, three_balls(200), config, generator=generator):
                if viewer is not None:
                    viewer.update(step)
                yield step

        return final(steps())

    def fails(*_: object) -> None:
        raise ZeroDivisionError("a panel")

    with Viewer(port=0) as viewer, connect_to(viewer.url):
        monkeypatch.setattr(viewer._page, "on_problem", fails)
        for panel in (viewer._run_panel, viewer._curves_panel, viewer._prior_panel, viewer._cameras):
            monkeypatch.setattr(panel, "show", fails)
        monkeypatch.setattr(viewer._view_panel._cameras, "value", True)
        monkeypatch.setattr(viewer, "_steer", fails)  # On the run's own thread.
        watched = run(viewer)
        deadline = time.monotonic() + 300
        while len(viewer.problems) < 4 and time.monotonic() < deadline:
            viewer._page.wake()
            time.sleep(0.02)
        told = {line.split(":")[0] for line in viewer.problems}
        assert {"steer", "Run", "Curves", "Training cameras"} <= told
        assert len(viewer.problems) == len(set(viewer.problems))
    assert "viewer: ZeroDivisionError in Run" in caplog.messages
    assert all(torch.equal(a, b) for a, b in zip(run(None), watched, strict=True))


def test_a_run_that_cannot_be_shown_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    with Viewer(port=0) as viewer:
        monkeypatch.setattr(viewer._newest, "keep", lambda splats: 1 / 0)
        viewer.gate.pause()
        thread = threading.Thread(target=lambda: viewer.update(next(fake_distill(1))), daemon=True)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and "ZeroDivisionError" in viewer.problems[-1]
        viewer.gate.resume()
        thread.join(10)
        assert not thread.is_alive()


def test_closing_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = Viewer(port=0)
    close = viewer._page.close
    monkeypatch.setattr(viewer._page, "close", lambda: 1 / 0)
    viewer.close()
    assert "ZeroDivisionError" in viewer.problems[-1]
    close()


def test_the_prior_is_asked_on_threads_that_end() -> None:
    threads: list[threading.Thread] = []

    class Notes(FakePrior):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            threads.append(threading.current_thread())
            return super().decode(latents)

    with Viewer(port=0) as viewer, connect_to(viewer.url):
        viewer.start(FakeConfig(), Notes())
        set_value(viewer._prior_panel._live, True)
        deadline = time.monotonic() + 300
        for step in fake_distill(100_000, seconds=0.01):
            viewer.update(step)
            if threads or time.monotonic() > deadline:
                break
        assert threads and threads[0] is not threading.main_thread()
        threads[0].join(10)
        assert not threads[0].is_alive() and viewer.problems == []


def test_stop_is_seen_by_the_loop() -> None:
    taken = 0
    with Viewer() as viewer:
        for step in fake_distill(50, seconds=0):
            taken += 1
            if taken == 4:
                viewer.gate.stop()
            viewer.update(step)
            if viewer.stop_requested:
                break
    assert taken == 4


def test_watch_pause_step_resume_stop(browser: Chromium) -> None:
    # A run that goes on shows what it was steered to.
    with Viewer(about={"prompt": "four balls", "guidance": "rfds-rev"}) as viewer:
        viewer.start(FakeConfig(prompt="three <b>balls", guidance="rfds"), FakePrior())
        seen: list[int] = []

        def run() -> None:
            for step in fake_distill(10_000, seconds=0.01):
                seen.append(step.index)
                viewer.update(step)
                if viewer.stop_requested:
                    break
            viewer.finish(["out/balls.ply"])

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        browser.open(viewer.url)
        browser.wait_text("three <b>balls")
        browser.wait_text("Running")
        assert "four balls" not in browser.text() and "rfds-rev" not in browser.text()
        browser.click_text("Pause")
        browser.wait_text("Paused")
        time.sleep(0.2)
        held = len(seen)
        time.sleep(0.3)
        assert len(seen) == held
        browser.click_text("Step once")
        browser.wait_text(f"{held + 1} / 10000")
        assert len(seen) == held + 1
        browser.click_text("Resume")
        browser.wait_text("Running")
        time.sleep(0.3)
        assert len(seen) > held + 3
        browser.click_text("Stop & export")
        thread.join(10)
        browser.wait_text("Stopped early, and written")
        browser.wait_text("out/balls.ply")
        assert viewer.problems == [] and seen[-1] == len(seen) < 10_000
