"""What the viewer costs and bears. Not a test; each takes minutes, and ends in one line that says it all:

    python -m tests.viewer.measure cost [ROUNDS] [STEPS]     what a page costs `rfgs generate`, all kinds side by side
    python -m tests.viewer.measure apart [ROUNDS] [STEPS]    the same, one after another: for a machine left alone
    python -m tests.viewer.measure crowd                     50 visits, a browser killed amid a frame: the asset's bits
    python -m tests.viewer.measure many [COUNT] [SECONDS]    200,000 splats: the first picture, and how far a live page
                                                             is behind its run in 60 s
    python -m tests.viewer.measure first [ROUNDS]            from Return after `rfgs generate` to splats in a browser
    python -m tests.viewer.measure studio [ROUNDS]           from Return in `rfgs studio` to splats
    python -m tests.viewer.measure page [FILE ...]           the page in one file, opened from disk, against our own render

They need Linux and a Chromium, which draws in software on the same cores: a browser with a GPU takes far less. Without
a Chromium, `cost` and `apart` do without its rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rfgs.export import read, write_ply
from rfgs.export.framing import framing
from rfgs.render import render
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, orbit
from rfgs.viewer import Viewer
from rfgs.viewer.aim import FIRST_AZIMUTH, FIRST_ELEVATION
from rfgs.viewer.share import write_page
from rfgs.viewer.software import COOKIE
from rfgs.viewer.stage import Look
from tests.viewer.chromium import EXECUTABLE, PATIENCE, Chromium
from tests.viewer.commands import Command
from tests.viewer.plain_client import connect_to
from tests.viewer.test_shared_page import overlapping
from tests.viewer.viewer_fakes import fake_distill, three_balls

PROMPT = "a red cube on a blue cylinder"
KINDS = ("no page", "unwatched", "one reader", "one Chromium", "one Chromium, coarse")
COMPARED = ("command CPU", "loop CPU", "loop wall")
SETTLED = 6.0
"""Seconds after which a page has been loaded and compiled, which it costs once, however long the run."""
CHILD = "from tests.viewer import timed_command; timed_command.main()"
"""Found, as this module is, from the folder that both are started in."""


def generate(folder: Path, steps: int, *flags: str) -> Command:
    """A short run of the real command, with the model that is part of rfgs; see `timed_command`."""
    words = ("generate", PROMPT, "--steps", steps, "--device", "cpu", "--output", folder)
    return Command(*words, *flags, program=CHILD)


@contextmanager
def reader(url: str) -> Iterator[None]:
    """A connection that reads all it is sent, as a browser on another machine does."""
    connection = connect_to(url)

    def read() -> None:
        try:
            while True:
                connection.recv()
        except Exception:
            pass

    threading.Thread(target=read, daemon=True).start()
    yield
    connection.close()


def machine_seconds() -> float:
    """What all processes of this machine have used of its processors so far (Linux)."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def one_run(kind: str, folder: Path, steps: int, ready: threading.Barrier) -> dict[str, float]:
    """Seconds of one run: processor time of the whole command, and of its loop alone both clocks.

    "Chromium CPU" and "others' CPU" are what the browser, and all that has nothing to do with the run, used from the
    loop's start to the command's end; where runs come one after another, the latter says whether the machine was idle.
    """
    flags = ["--no-viewer"] if kind == "no page" else ["--port", "0"]
    with ExitStack() as stack:
        run = stack.enter_context(generate(folder, steps, *flags))
        browser = stack.enter_context(Chromium()) if "Chromium" in kind else None
        if browser:
            browser.open(run.url + ("&fixedDpr=0.5" if "coarse" in kind else ""))
            browser.wait_text(f"1 / {steps}")
            time.sleep(SETTLED)
        elif kind == "one reader":
            stack.enter_context(reader(run.url))
        ready.wait(PATIENCE)
        drawn, machine = browser.processor_seconds() if browser else 0.0, machine_seconds()
        own = run.processor_seconds()
        folder.with_suffix(".go").touch()  # Beside the folder, which the run may not have made yet.
        _, processor = run.wait()
        drawn = browser.processor_seconds() - drawn if browser else 0.0
        others = machine_seconds() - machine - (processor - own) - drawn
    first, last = json.loads((folder / "marks.json").read_text())
    return {
        "command CPU": processor,
        "loop CPU": last[1] - first[1],
        "loop wall": last[0] - first[0],
        "Chromium CPU": drawn,
        "others' CPU": others,
    }


def cost(rounds: int = 5, steps: int = 40, *, together: bool = True) -> None:
    """All kinds of runs again and again; ratios to the run without a page.

    Args:
        together: all kinds at once, so that a busy machine slows all alike; believe the processor time then, for the
            wall clock tells of the others too. Else one after another, and the wall clock is what a user waits.
    """
    kinds = list(KINDS if EXECUTABLE else KINDS[:-2])
    ratios: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds[1:]}
    for _ in range(rounds):
        ready = threading.Barrier(len(kinds) if together else 1)
        with (
            tempfile.TemporaryDirectory() as place,
            ThreadPoolExecutor(len(kinds) if together else 1) as pool,
        ):
            folders = [Path(place) / kind.replace(" ", "-") for kind in kinds]
            found = pool.map(one_run, kinds, folders, repeat(steps), repeat(ready))
            seconds = dict(zip(kinds, found, strict=True))
        kinds = kinds[1:] + kinds[:1]  # None is always the first, or the last.
        for kind, own in seconds.items():
            print(f"{kind}: " + ", ".join(f"{name} {value:.1f} s" for name, value in own.items()), flush=True)
        for kind, one in ratios.items():
            one.append({name: seconds[kind][name] / seconds["no page"][name] for name in COMPARED})
    for kind, one in ratios.items():
        for name in COMPARED:
            values = [ratio[name] for ratio in one]
            print(
                f"{kind}, {name}: {statistics.median(values):.3f} of a run with no page "
                f"({min(values):.3f} to {max(values):.3f} in {rounds} rounds)"
            )
    name = "loop CPU" if together else "loop wall"
    medians = {kind: statistics.median(ratio[name] for ratio in one) for kind, one in ratios.items()}
    print(f"{name}, ratio to no page: " + ", ".join(f"{kind} {ratio:.3f}" for kind, ratio in medians.items()))


def crowd(visits: int = 50) -> None:
    """One run alone, and one that browsers come to, leave, and die at; the assets' bits are compared."""
    with tempfile.TemporaryDirectory() as place:
        alone, watched = Path(place) / "alone", Path(place) / "watched"
        flags = ("generate", PROMPT, "--steps", 90, "--device", "cpu", "--output")
        with (
            Chromium() as browser,
            Command(*flags, alone, "--no-viewer") as reference,
            Command(*flags, watched, "--port", "0") as run,
        ):
            made = 0
            while not run.done and made < visits:
                if made % 25 == 0:
                    # A real page, left as soon as it draws.
                    browser.open(run.url)
                    browser.wait_for("!!document.querySelector('canvas')")
                    browser.open("about:blank")
                else:
                    with connect_to(run.url) as connection:
                        connection.recv(timeout=60)
                made += 1
            browser.open(run.url)
            browser.wait_text("Running")
            for x in range(100, 500, 20):
                browser.drag((x, 300), (x + 20, 300), steps=1)
            # It draws a new picture for every move of the mouse, and dies at that.
            killed = not run.done
            browser.kill()
            run.wait()
            reference.wait()
        bits = [hashlib.sha256((one / "splats.ply").read_bytes()).hexdigest() for one in (alone, watched)]
        print(
            f"{made} visits, killed while the run went on: {killed}; bit-identical: {bits[0] == bits[1]} {bits}"
        )


def many(count: int = 200_000, seconds: float = 60) -> None:
    """The first picture of a file, and the age of what a live page shows while it is sent so many splats."""
    if not EXECUTABLE:
        sys.exit("many: no Chromium on this machine (Debian: apt-get install chromium)")
    places = [(238, 352), (478, 322), (320, 142)]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "many.ply"
        write_ply(three_balls(count), file)
        waits: list[float] = []
        for how, flags in (("it is asked", ["--server-render"]), ("by itself", []), ("never", [])):
            with Command("view", file, "--port", "0", *flags) as view, Chromium() as browser:
                if how == "never":
                    browser.command("Network.setCookie", name=COOKIE, value="0", url=view.url)
                # Of both sides: what a machine with nothing else to do would need at most.
                url, used = view.url, browser.processor_seconds() + view.processor_seconds()
                start = time.perf_counter()
                browser.open(url)
                browser.wait_colors(places)
                wait = time.perf_counter() - start
                waits.append(wait)
                print(
                    f"{count} splats, drawn by the server {how}: {wait:.1f} s to the first picture, "
                    f"{browser.processor_seconds() + view.processor_seconds() - used:.1f} s of processor time",
                    flush=True,
                )
    made: dict[int, float] = {}
    with Viewer(port=0) as viewer, Chromium() as browser:

        def run() -> None:
            for step in fake_distill(10**6, count, seconds=0.1):
                made[step.index] = time.perf_counter()
                viewer.update(step)
                if viewer.stop_requested:
                    break

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        browser.open(viewer.url)
        browser.wait_for("/[1-9]\\d* \\/ 1000000/.test(document.body.innerText)")
        ages: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            shown = int(browser.evaluate("+document.body.innerText.match(/(\\d+) \\/ 1000000/)[1]"))
            ages.append(time.perf_counter() - made[shown])
            time.sleep(0.5)
        viewer.gate.stop()
        thread.join(30)
    halves = [ages[: len(ages) // 2], ages[len(ages) // 2 :]]
    for name, half in zip(("first", "second"), halves, strict=True):
        print(f"{name} half: the page is {statistics.median(half):.1f} s behind, at most {max(half):.1f} s")
    growth = statistics.median(halves[1]) / statistics.median(halves[0])
    print(
        f"{count} splats: first picture by itself after {waits[1]:.1f} s, {waits[1] / 5:.2f} of the 5 s aimed at; the live page "
        f"falls behind by {growth:.2f} from the first half of {seconds:.0f} s to the second (1: the newest wins), "
        f"{len(made)} steps"
    )


def first(rounds: int = 3) -> None:
    """Seconds from the start of a draft to its page, and to the first splats in it, in a browser that was open before."""
    with Chromium() as browser:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as place:
                browser.open("about:blank")
                start, load = time.perf_counter(), os.getloadavg()[0]
                words = (
                    "generate",
                    PROMPT,
                    "--quality",
                    "draft",
                    "--output",
                    Path(place) / "run",
                    "--port",
                    "0",
                )
                with Command(*words, "--no-open") as run:
                    browser.open(run.url)
                    page = time.perf_counter() - start
                    while not _has_splats(browser):
                        time.sleep(0.1)
                    seen, used = time.perf_counter() - start, run.processor_seconds()
                    print(
                        f"page after {page:.1f} s, splats after {seen:.1f} s; {used:.1f} s of processor time of the run until "
                        f"then; load before {load:.1f}",
                        flush=True,
                    )


def studio(rounds: int = 3) -> None:
    """Seconds from Return, in a studio that has been open for a while, to the first splats of a draft in its page."""
    with tempfile.TemporaryDirectory() as place, Chromium() as browser:
        with Command("studio", "--output", place, "--port", "0", "--no-open") as run:
            browser.open(run.url)
            browser.wait_text("Nothing has been made yet")
            for number in range(rounds):
                browser.evaluate("document.getElementById('quality').value = 'draft'")
                time.sleep(SETTLED)
                start, load = time.perf_counter(), os.getloadavg()[0]
                browser.type_into("#prompt", f"a {('red', 'blue', 'green')[number % 3]} cube")
                browser.wait_for(f"{FRAME}?.body?.innerText.includes('Running')")
                page = time.perf_counter() - start
                while not _has_splats(browser, _middle_of_frame(browser)):
                    time.sleep(0.1)
                seen = time.perf_counter() - start
                print(
                    f"page after {page:.1f} s, splats after {seen:.1f} s; load before {load:.1f}", flush=True
                )
                done = (
                    "[...document.querySelectorAll('.facts')].filter(e => e.innerText.startsWith('finished'))"
                )
                browser.wait_for(f"{done}.length > {number}")


def page(*files: str) -> None:
    """PSNR, dB, over the pixels that show something, of pages from disk: of forty balls that overlap, and of files."""
    background = torch.tensor(Look().background) / 255
    shown = {"forty balls": overlapping(), **{file: read(Path(file)) for file in files}}
    with tempfile.TemporaryDirectory() as place:
        for name, splats in shown.items():
            write_page(splats, Path(place) / "page.html")
            center, radius = framing(splats)
            camera = orbit(
                FIRST_AZIMUTH,
                FIRST_ELEVATION,
                DEFAULT_DISTANCE * radius,
                DEFAULT_FOV,
                960,
                600,
                target=center,
            )
            ours = render(splats, camera, background).rgb[0].clamp(0, 1).permute(1, 2, 0).numpy()
            there = np.abs(ours - background.numpy()).max(axis=-1) > 2 / 255
            there[:120] = False  # viser's own controls.
            best, since = 0.0, time.perf_counter()
            with Chromium() as browser:
                browser.open((Path(place) / "page.html").as_uri())
                while time.perf_counter() - since < PATIENCE / 10:  # Splats fade in.
                    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
                    error = np.square(np.asarray(picture) / 255 - ours)[there].mean()
                    best = max(best, float(-10 * np.log10(error)))
                    time.sleep(1)
            print(f"{name}, {len(splats)} splats: {best:.1f} dB", flush=True)


FRAME = "document.getElementById('frame').contentDocument"


def _middle_of_frame(browser: Chromium) -> tuple[slice, slice]:
    """Rows and columns of the page, left of the panel of the run's own page in it."""
    box = "document.getElementById('frame').getBoundingClientRect()"
    left, top, width, height = (
        browser.evaluate(f"{box}.{side}") for side in ("left", "top", "width", "height")
    )
    rows, columns = (top + 0.35 * height, top + 0.65 * height), (left + 0.2 * width, left + 0.45 * width)
    return slice(*map(int, rows)), slice(*map(int, columns))


MIDDLE = slice(220, 420), slice(220, 420)
"""Of a window of 960 x 600 with a panel on the right."""


def _has_splats(browser: Chromium, middle: tuple[slice, slice] = MIDDLE) -> bool:
    """Whether the middle of the page is not one color."""
    pixels = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"))
    return bool(np.ptp(pixels[middle].astype(int), axis=(0, 1)).max() > 12)


if __name__ == "__main__":
    what, numbers = (
        (sys.argv[1] if len(sys.argv) > 1 else ""),
        [int(number) for number in sys.argv[2:] if number.isdecimal()],
    )
    if what == "cost":
        cost(*numbers)
    elif what == "apart":
        cost(*numbers, together=False)
    elif what == "crowd":
        crowd()
    elif what == "many":
        many(*numbers)
    elif what == "first":
        first(*numbers)
    elif what == "studio":
        studio(*numbers)
    elif what == "page":
        page(*sys.argv[2:])
    else:
        print(__doc__)
