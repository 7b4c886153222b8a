"""Drives a real headless Chromium over its DevTools protocol, by the `websockets` package viser brings."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import connect

FLAGS = (
    "--headless --no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-gpu-compositing "  # There is no GPU, and pages by way of an emulated one take six times as long.
    "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync "
    "--disable-default-apps --hide-scrollbars --remote-debugging-port=0"
).split()

PATIENCE = 300.0
"""Seconds to wait for something that takes one on an idle machine: where others work with priority, a page can take
minutes, and a test that waits is better than one that fails."""

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

OUT_OF_PLACE = """(page) => {
  const window = page.defaultView, wrong = [], told = e => `${e.tagName} “${e.innerText || e.value || e.title}”`.slice(0, 80);
  const seen = (e) => { // Its box, without what is folded or scrolled away.
    let {left, top, right, bottom} = e.getBoundingClientRect();
    for (let p = e.parentElement; p; p = p.parentElement) {
      if (window.getComputedStyle(p).overflowY === "visible") continue;
      const box = p.getBoundingClientRect();
      left = Math.max(left, box.left), right = Math.min(right, box.right);
      top = Math.max(top, box.top), bottom = Math.min(bottom, box.bottom);
    }
    return {left, top, right, bottom, width: right - left, height: bottom - top};
  };
  const shown = e => e.checkVisibility({visibilityProperty: true}) && seen(e).width > 0 && seen(e).height > 0;
  const open = page.querySelector("dialog[open]") || page.body;
  const pressed = [...open.querySelectorAll("button, input, textarea, select, [role=tab]")].filter(shown);
  const read = [...open.querySelectorAll("h1, h2, p, b, small, label, td, code, li")].filter(shown);
  for (const e of [...pressed, ...read]) {
    const box = e.getBoundingClientRect();
    if (box.left < -1 || box.right > window.innerWidth + 1) wrong.push(`out of the window: ${told(e)}`);
    if (e.tagName !== "TEXTAREA" && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible")
      wrong.push(`cut off: ${told(e)}`);
  }
  pressed.forEach((a, i) => pressed.slice(i + 1).forEach((b) => {
    if (a.contains(b) || b.contains(a)) return;
    const p = seen(a), q = seen(b);
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    const within = wide >= Math.min(p.width, q.width) - 1 && high >= Math.min(p.height, q.height) - 1; // As in its own field.
    if (wide > 2 && high > 2 && !within) wrong.push(`over one another: ${told(a)}, ${told(b)}`);
  }));
  if (page.documentElement.scrollWidth > window.innerWidth + 1) wrong.push("the page is wider than its window");
  return wrong;
}"""

COARSE = """{
  const get = URLSearchParams.prototype.get, draw = window.requestAnimationFrame.bind(window);
  URLSearchParams.prototype.get = function (name) { return name === "fixedDpr" ? "0.25" : get.call(this, name); };
  window.requestAnimationFrame = (step) => setTimeout(() => draw(step), 60);
  window.cancelAnimationFrame = clearTimeout;
  const later = window.setTimeout.bind(window);
  window.setTimeout = (step, wait, ...rest) => later(step, wait === 1000 ? 200 : wait, ...rest);
}"""
"""What a page begins with that is to cost little time: scenes by viser's own `?fixedDpr` and a dozen times a second, and what a
page does once a second (the studio's asks what is new) five times."""


class Chromium:
    """One browser with one page. A context manager; `kill` ends it the hard way.

    Args:
        width, height: of the page's window, pixels.
        coarse: 3D scenes are drawn in a sixteenth of their pixels and less often, for they are most of what a page costs
            where the processor draws them, and the page asks for news more often. Nothing else of it changes.
    """

    def __init__(self, width: int = 960, height: int = 600, *, coarse: bool = False) -> None:
        assert EXECUTABLE is not None
        self._profile = tempfile.mkdtemp(prefix="rfgs-chromium-")
        self.downloads = Path(self._profile) / "downloads"
        self._process = subprocess.Popen(
            [
                EXECUTABLE,
                *FLAGS,
                f"--window-size={width},{height}",
                f"--user-data-dir={self._profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._ids = itertools.count(1)
        self._document = "document"
        try:
            self._attach(width, height)
            if coarse:
                self.command("Page.addScriptToEvaluateOnNewDocument", source=COARSE)
        except BaseException:
            self.kill()
            raise

    def _attach(self, width: int, height: int) -> None:
        port_file = Path(self._profile) / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE
        while not (port_file.exists() and len(port_file.read_text().splitlines()) == 2):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("Chromium did not start")
            time.sleep(0.05)
        port, path = port_file.read_text().splitlines()
        self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, open_timeout=PATIENCE)
        # A browser that is short of processor time may leave a ping unanswered for longer than the usual 20 s.
        self._socket.ping_timeout = PATIENCE
        targets = self.command("Target.getTargets", session=False)["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self.command("Target.attachToTarget", session=False, targetId=page, flatten=True)[
            "sessionId"
        ]
        self.command("Page.enable")
        self.resize(width, height)
        self.command(
            "Browser.setDownloadBehavior", session=False, behavior="allow", downloadPath=str(self.downloads)
        )

    def command(self, method: str, *, session: bool = True, **params: Any) -> dict[str, Any]:
        """Sends one DevTools command and returns its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Gives the page's window another shape, pixels; as a phone, with that one's way to lay pages out."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    @contextlib.contextmanager
    def within(self, frame: str) -> Iterator[None]:
        """What is read, clicked and typed into is in the page of a frame, given as a JavaScript expression."""
        before, self._document = self._document, f"{frame}.contentDocument"
        self.wait_for(f"!!{self._document}?.body")
        try:
            yield
        finally:
            self._document = before

    def open(self, url: str) -> None:
        """Goes to a page, and waits until it is there and its own scripts have begun."""
        self.command("Page.navigate", url=url)
        # Until then a picture of the page fails, and what is evaluated may be told by the page before.
        self.wait_for(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, script: str, timeout: float = PATIENCE) -> Any:
        """Waits until a JavaScript expression is true, and returns its value."""
        deadline = time.monotonic() + timeout
        while not (value := self.evaluate(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {timeout} s: {script}; page says: {self.text()[:600]}")
            time.sleep(0.1)
        return value

    def text(self) -> str:
        """What the page says."""
        return self.evaluate(f"{self._document}?.body?.innerText || ''")

    def wait_text(self, text: str, timeout: float = PATIENCE) -> None:
        self.wait_for(f"{self._document}?.body?.innerText.includes({json.dumps(text)})", timeout)

    def out_of_place(self) -> list[str]:
        """What of the page nobody can read or press as it should be: out of its window's sides, cut off, or over another."""
        return self.evaluate(f"({OUT_OF_PLACE})({self._document})")

    def click_text(self, text: str) -> None:
        """Clicks the button, tab or label whose text is `text`, with a real mouse event at its center."""
        found = (
            f"[...{self._document}.querySelectorAll('button, [role=tab], label')]"
            f".filter(e => e.innerText.trim() === {json.dumps(text)} && e.offsetParent !== null)[0]"
        )
        self.click_element(found)

    def unfold(self, label: str = "Advanced") -> None:
        """Opens the folder of this label in the panel that is shown, and waits until it is open."""
        found = (
            f"[...{self._document}.querySelectorAll('div')].filter(e => e.innerText.trim() === {json.dumps(label)} "
            "&& e.offsetParent !== null).pop()"
        )
        opened = (
            f"(async () => {{ const high = () => {found}.parentElement.getBoundingClientRect().height, was = high();"
            " await new Promise(done => setTimeout(done, 400)); return was > 60 && high() === was; })()"
        )
        self.click_element(found)
        for _ in range(5):
            # A panel that still slides in moves away from under the pointer.
            with contextlib.suppress(TimeoutError):
                self.wait_for(opened, timeout=10)
                return
            self.click_element(found)
        self.wait_for(opened)

    def click_switch(self, label: str) -> None:
        """Clicks the checkbox, or opens the choice, that stands beside a label."""
        self.click_element(
            f"(e => e && e.ownerDocument.getElementById(e.htmlFor))([...{self._document}.querySelectorAll('label')]"
            f".filter(e => e.innerText.trim() === {json.dumps(label)} && e.offsetParent !== null)[0])"
        )

    def choose(self, label: str, option: str) -> None:
        """Picks an option of the choice that stands beside a label."""
        self.click_switch(label)
        self.click_element(
            f"[...{self._document}.querySelectorAll('[role=option]')]"
            f".filter(e => e.innerText.trim() === {json.dumps(option)} && e.offsetParent !== null)[0]"
        )

    def click_element(self, found: str) -> None:
        """Waits for an element, given as a JavaScript expression, and clicks its center with the mouse."""
        self.wait_for(f"!!({found})")
        box = self.evaluate(
            f"(() => {{ const e = {found}; e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(), f = e.ownerDocument.defaultView.frameElement;"
            " const o = f ? f.getBoundingClientRect() : {x: 0, y: 0}, b = f ? f.clientLeft : 0;"
            " return [o.x + b + r.x + r.width / 2, o.y + b + r.y + r.height / 2]; })()"
        )
        self.click(*box)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Presses at `start`, moves to `end`, releases."""
        self.command(
            "Input.dispatchMouseEvent",
            type="mousePressed",
            x=start[0],
            y=start[1],
            button="left",
            clickCount=1,
        )
        for k in range(1, steps + 1):
            x, y = (a + (b - a) * k / steps for a, b in zip(start, end, strict=True))
            self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.command(
            "Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left", clickCount=1
        )

    def wheel(self, x: float, y: float, delta: float) -> None:
        """Turns the mouse wheel at (x, y): positive is away from the scene."""
        self.command("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)

    def type_into(self, selector: str, text: str) -> None:
        """Replaces the content of an input element and presses Enter."""
        self._type(f"{self._document}.querySelector({json.dumps(selector)})", text)

    def type_at(self, label: str, text: str) -> None:
        """The same for the number that stands beside a label, or after the slider that does."""
        self._type(
            f"(label => label && [...{self._document}.querySelectorAll('input[inputmode=decimal]')].find(e => "
            "label.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING))"
            f"([...{self._document}.querySelectorAll('label')]"
            f".filter(e => e.innerText.trim() === {json.dumps(label)} && e.offsetParent !== null)[0])",
            text,
        )

    def _type(self, found: str, text: str) -> None:
        """Waits for an element, given as a JavaScript expression, and types into it."""
        self.wait_for(f"!!({found})")
        self.evaluate(f"{{ const e = {found}; e.ownerDocument.defaultView.focus(); e.focus(); e.select(); }}")
        self.command("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13
            )

    def wait_download(self, name: str, timeout: float = PATIENCE) -> Path:
        """Waits until a file has been downloaded under `name`, and returns its path."""
        deadline = time.monotonic() + timeout
        while not (path := self.downloads / name).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not downloaded; there is {list(self.downloads.glob('*'))}")
            time.sleep(0.05)
        return path

    def wait_colors(self, places: list[tuple[int, int]], timeout: float = PATIENCE) -> list[np.ndarray]:
        """Mean RGB of 20 x 20 pixels about each (x, y), once all of them are strongly colored."""
        deadline = time.monotonic() + timeout
        while True:
            pixels = np.asarray(Image.open(io.BytesIO(self.screenshot())).convert("RGB")).astype(float)
            colors = [pixels[y - 10 : y + 10, x - 10 : x + 10].mean(axis=(0, 1)) for x, y in places]
            if all(np.ptp(color) > 100 for color in colors):
                return colors
            if time.monotonic() > deadline:
                raise TimeoutError(f"no strong colors at {places}: {colors}")
            time.sleep(0.4)  # A picture of the page costs the machine as much as the page itself.

    def screenshot(self, path: Path | None = None) -> bytes:
        """PNG bytes of the page, also written to `path`."""
        data = base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def processor_seconds(self) -> float:
        """What all its processes have used of the processor so far (Linux)."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # It may have ended meanwhile.
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self._process.pid:  # The process group.
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """Ends the browser and all its processes at once, in the middle of whatever they do."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
