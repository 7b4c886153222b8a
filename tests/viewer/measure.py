"""What the viewer costs and bears. Not a test; each of the three takes minutes:

    python tests/viewer/measure.py cost [ROUNDS]    what a page costs `rfgs generate`, in time
    python tests/viewer/measure.py crowd            50 visits, and a browser killed amid a frame: the asset's bits
    python tests/viewer/measure.py many             200,000 splats: the first picture, and how far the page is behind

They need Linux and a Chromium, which draws in software on the same cores: a browser with a GPU takes far less.
"""

from __future__ import annotations

import hashlib
import json
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

sys.path.append(str(Path(__file__).parent))

from chromium import PATIENCE, Chromium
from commands import Command
from plain_client import connect_to
from viewer_fakes import fake_distill, three_balls

from rfgs.export import write_ply
from rfgs.viewer import Viewer

PROMPT = "a red cube on a blue cylinder"
STEPS = 40
KINDS = ("no page", "unwatched", "one reader", "one Chromium")
CHILD = "import sys; sys.path.insert(0, sys.argv.pop(1)); import timed_command; timed_command.main()"


def generate(folder: Path, *flags: str) -> Command:
    """A short run of the real command, with the model that is part of rfgs; see `timed_command`."""
    words = ("generate", PROMPT, "--steps", STEPS, "--device", "cpu", "--output", folder)
    return Command(Path(__file__).parent, *words, *flags, program=CHILD)


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


def one_run(kind: str, folder: Path, ready: threading.Barrier) -> dict[str, float]:
    """Seconds of one run: processor time of the whole command, and of its loop alone both clocks."""
    flags = ["--no-viewer"] if kind == "no page" else ["--port", "0"]
    with ExitStack() as stack:
        run = stack.enter_context(generate(folder, *flags))
        browser = stack.enter_context(Chromium()) if kind == "one Chromium" else None
        if browser:
            browser.open(run.url)
            browser.wait_text(f"1 / {STEPS}")
        elif kind == "one reader":
            stack.enter_context(reader(run.url))
        ready.wait(PATIENCE)
        (folder / "go").touch()
        _, processor = run.wait()
        drawn = browser.processor_seconds() if browser else 0.0
    first, last = json.loads((folder / "marks.json").read_text())
    return {
        "command CPU": processor,
        "loop CPU": last[1] - first[1],
        "loop wall": last[0] - first[0],
        "Chromium CPU": drawn,
    }


def cost(rounds: int) -> None:
    """All kinds at once, so that a busy machine slows all alike, again and again; ratios to the run without a page.

    On a machine that others use as well, believe the processor time; the wall clock tells of them too.
    """
    ratios: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS[1:]}
    for number in range(rounds):
        kinds = [KINDS[(number + k) % len(KINDS)] for k in range(len(KINDS))]
        with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(len(kinds)) as pool:
            folders = [Path(place) / kind.replace(" ", "-") for kind in kinds]
            found = pool.map(one_run, kinds, folders, repeat(threading.Barrier(len(kinds))))
            seconds = dict(zip(kinds, found, strict=True))
        for kind in KINDS:
            print(
                f"{kind}: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds[kind].items()),
                flush=True,
            )
        for kind, one in ratios.items():
            one.append(
                {name: seconds[kind][name] / base for name, base in seconds["no page"].items() if base}
            )
    for kind, one in ratios.items():
        for name in one[0]:
            values = [ratio[name] for ratio in one]
            print(
                f"{kind}, {name}: {statistics.median(values):.3f} of a run with no page "
                f"({min(values):.3f} to {max(values):.3f} in {rounds} rounds)"
            )


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


def many(count: int = 200_000) -> None:
    """The first picture of a file, and the age of what a live page shows while it is sent so many splats."""
    places = [(238, 352), (478, 322), (320, 142)]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "many.ply"
        write_ply(three_balls(count), file)
        with Command("view", file, "--port", "0") as view, Chromium() as browser:
            url = view.url
            for attempt in range(2):
                # Of both sides: what a machine with nothing else to do would need at most.
                used, start = browser.processor_seconds() + view.processor_seconds(), time.perf_counter()
                browser.open(url)
                browser.wait_colors(places)
                print(
                    f"{count} splats, visit {attempt}: {time.perf_counter() - start:.1f} s to the first picture, "
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
        while time.perf_counter() - start < 60:
            shown = int(browser.evaluate("+document.body.innerText.match(/(\\d+) \\/ 1000000/)[1]"))
            ages.append(time.perf_counter() - made[shown])
            time.sleep(0.5)
        viewer.gate.stop()
        thread.join(30)
        print(f"steps made in that minute: {len(made)}")
        for name, half in (("first", ages[: len(ages) // 2]), ("second", ages[len(ages) // 2 :])):
            print(
                f"{name} half minute: the page is {statistics.median(half):.1f} s behind, at most {max(half):.1f} s"
            )


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "cost":
        cost(int(sys.argv[2]) if len(sys.argv) > 2 else 5)
    elif what == "crowd":
        crowd()
    elif what == "many":
        many()
    else:
        print(__doc__)
