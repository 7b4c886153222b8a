"""The pictures of docs/viewer.md, made from real runs: `python -m tests.viewer.screenshots`. Not a test; takes minutes.

`python -m tests.viewer.screenshots studio` makes the studio's only; `... looks FOLDER` looks at both pages at the sizes of a desk
and of a phone, with drafts, for who has changed them.

It starts `rfgs generate` with the model that is part of rfgs, watches it in a headless Chromium as a person would,
and writes assets/docs/viewer-*.png.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.viewer.chromium import Chromium
from tests.viewer.commands import Command

PROMPT = "a red cube on a blue cylinder"
OTHER = "a green torus on a yellow cube"
LONGEST = 4 * 3600.0
"""Seconds that a run may take."""
FOLDER = Path(__file__).parents[2] / "assets" / "docs"


def live_run(folder: Path) -> None:
    """Run, Steer and View, at three moments near the end of one run, when the object stands."""
    with generate(PROMPT, folder, "--keep-viewer") as run:
        with Chromium(1280, 860) as browser:
            browser.open(run.url)
            browser.wait_text("Running")
            browser.wait_for(done(0.9), timeout=LONGEST)
            browser.click_text("Pause")
            browser.wait_text("Paused")
            browser.unfold()
            browser.click_switch("Show what the model sees")
            browser.click_text("Step once")
            time.sleep(10)  # What belongs to the step before which it waits is on its way.
            tidy(browser)
            keep(browser, "viewer-run")
            browser.click_text("Steer")
            browser.type_at("Prompt strength", "6")
            browser.wait_text("Prompt strength")
            browser.click_text("Run")
            browser.click_text("Step once")
            browser.click_text("Steer")
            browser.wait_text("→ 6")
            time.sleep(2)
            keep(browser, "viewer-steer")
            browser.click_text("View")
            browser.unfold()
            browser.click_switch("Training cameras")
            time.sleep(3)
            for _ in range(8):
                browser.wheel(480, 430, 300)
            browser.command(
                "Input.dispatchMouseEvent", type="mouseMoved", x=480, y=430
            )  # Off the button's hint.
            time.sleep(3)
            tidy(browser)
            keep(browser, "viewer-view")
            browser.click_text("Run")
            browser.click_text("Resume")
            browser.wait_text("Finished", timeout=LONGEST)


def generate(prompt: str, folder: Path, *flags: str) -> Command:
    return Command("generate", prompt, "--device", "cpu", "--port", "0", "--output", folder, *flags)


def keep(browser: Chromium, name: str, folder: Path = FOLDER) -> None:
    """Writes a picture of the page in 256 colors, which halves its size."""
    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    palette = picture.quantize(256)
    small = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    small.save(folder / f"{name}.png", optimize=True)


def tidy(browser: Chromium) -> None:
    """Takes away the remark that there is no GPU to draw with."""
    browser.evaluate("document.querySelectorAll('.mantine-Notification-closeButton').forEach(e => e.click())")


def done(part: float) -> str:
    """True in the page of a run that has made this part of its steps."""
    return f"(t => t && +t[1] >= {part} * +t[2])(document.body.innerText.match(/(\\d+) \\/ (\\d+)/))"


def files(*paths: Path) -> None:
    """Several side by side."""
    with Command("view", *paths, "--port", "0") as view, Chromium(1280, 720) as browser:
        browser.open(view.url)
        browser.wait_text("splats")
        time.sleep(20)  # Splats are faded in, slowly where Chromium draws in software.
        tidy(browser)
        keep(browser, "viewer-files")


IN_FRAME = "document.getElementById('frame').contentDocument.querySelectorAll"


def studio(browser: Chromium, place: Path, name: str, folder: Path) -> None:
    """Two drafts, another run on its way, for long enough to be paused, and a draft that waits."""
    with Command("studio", "--output", place, "--port", "0", "--no-open") as command:
        browser.open(command.url)
        browser.wait_text("Nothing has been made yet")
        if folder != FOLDER:
            keep(browser, f"{name}-empty", folder)
        for prompt, quality in (
            (PROMPT, "draft"),
            ("a cactus", "draft"),
            (OTHER, "normal"),
            ("a castle", "draft"),
        ):
            browser.evaluate(f"document.getElementById('quality').value = '{quality}'")
            browser.type_into("#prompt", prompt)
            browser.wait_for("!document.getElementById('prompt').value")
        browser.wait_for(
            "document.querySelector('#what').innerText.match(/step [2-9]\\d\\d of/) && "
            f"document.querySelector('#title').innerText === '{OTHER}'",
            timeout=LONGEST,
        )
        browser.evaluate(f"[...{IN_FRAME}('button')].find(e => e.innerText.trim() === 'Pause').click()")
        browser.wait_for(f"[...{IN_FRAME}('b')].some(e => e.innerText === '● Paused')")
        browser.evaluate(f"{IN_FRAME}('.mantine-Notification-closeButton').forEach(e => e.click())")
        time.sleep(8)  # Splats are on their way, and faded in.
        keep(browser, name, folder)
        if folder != FOLDER:
            browser.evaluate("document.getElementById('stage').scrollIntoView()")
            time.sleep(1)
            keep(browser, f"{name}-stage", folder)
            browser.evaluate("document.getElementById('runs').scrollIntoView()")
            time.sleep(1)
            keep(browser, f"{name}-runs", folder)
        command.interrupt()


def looks(folder: Path) -> None:
    """Both pages at both sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for size in ((1280, 860), (390, 844)):
        with tempfile.TemporaryDirectory() as place, Chromium(*size) as browser:
            studio(browser, Path(place) / "runs", f"studio-{size[0]}", folder)
            with generate(PROMPT, Path(place) / "run", "--quality", "draft", "--keep-viewer") as run:
                browser.open(run.url)
                browser.wait_text("Finished")
                tidy(browser)
                time.sleep(5)
                for tab in ("Run", "Steer", "View", "Save"):
                    browser.click_text(tab)
                    time.sleep(1)
                    keep(browser, f"run-{size[0]}-{tab.lower()}", folder)


def main() -> None:
    if sys.argv[1:2] == ["looks"]:
        return looks(Path(sys.argv[2]))
    for name, size in (("studio", (1280, 860)), ("studio-phone", (390, 844))):
        with tempfile.TemporaryDirectory() as place, Chromium(*size) as browser:
            studio(browser, Path(place) / "runs", name, FOLDER)
    if sys.argv[1:] == ["studio"]:
        return None
    with tempfile.TemporaryDirectory() as place:
        mine, other = Path(place) / "red-cube", Path(place) / "green-torus"
        with generate(OTHER, other) as run:
            live_run(mine)
            run.wait()
        files(mine, other)


if __name__ == "__main__":
    main()
