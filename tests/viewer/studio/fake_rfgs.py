"""Stands for `rfgs` in the studio's tests: runs without a model that go on until a file tells them to end."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rfgs.viewer.studio import Studio

PLAIN = [sys.executable, str(Path(__file__)), "plain"]
"""What starts one without a page, in a tenth of a second."""
WITH_PAGE = [sys.executable, "-c", "from tests.viewer.studio.fake_rfgs import main; main()", "page"]
"""What starts one with the live page that runs have."""
END = "END"
"""Name of the file beside the runs' folders at which they end. Its content is the prompt of those that it is for; one with
"paused" in it is paused at its third step."""
STEPS = 50


def note(folder: Path, prompt: str, state: str, done: int, changes: list[Any] | None = None) -> None:
    """Writes a record, as runs do."""
    record = {
        "state": state,
        "job": {"prompt": prompt, "model": "tiny-sd3", "quality": "draft", "seed": 0},
        "config": {"steps": STEPS},
        "steps_done": done,
        "seconds": {"prior": 1.5},
        "changes": changes or [],
    }
    temporary = folder / ".run.json.new"
    temporary.write_text(json.dumps(record))
    temporary.replace(folder / "run.json")


def may_end(folder: Path, prompt: str) -> bool:
    file = folder.parent / END
    return file.exists() and prompt in file.read_text()


def in_a_fork(words: list[str]) -> None:
    """What one with a page is as a fork of a process that has imported all."""
    sys.argv[1:] = ["page", *words]
    main()


def opened(place: Path) -> Studio:
    """A studio as `rfgs studio` opens it, whose runs, where they can be, are forks, with a page."""
    from rfgs.runs.forks import ABLE
    from rfgs.viewer.studio import Studio

    return Studio(place, WITH_PAGE, forked=in_a_fork if ABLE else None, port=0)


def main() -> None:
    from rfgs.cli.streams import outlive

    outlive()  # As `rfgs` does, also of a studio that reads no more.
    # And: in the background of a script, programs begin with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    page, command, *words = sys.argv[1:]
    if command == "export":
        Path(words[1]).write_text(f"made of {words[0]}")
        return
    resumes = words[0] == "--resume"
    folder = Path(words[1] if resumes else words[words.index("--output") + 1])
    prompt = json.loads((folder / "run.json").read_text())["job"]["prompt"] if resumes else words[0]
    if "nothing" in prompt:
        print("rfgs: the disk is full; free some space", file=sys.stderr)
        sys.exit(2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / f"{folder.name}.words").write_text(json.dumps(words))
    note(folder, prompt, "running", 0)
    if page == "page":
        with_page(folder, prompt)
        return
    print(f"viewer: http://127.0.0.1:1/?token=x\ngenerate:  14%|█| 7/{STEPS} [00:01<00:02]", flush=True)
    while not may_end(folder, prompt):
        time.sleep(0.01)
    note(folder, prompt, "finished", STEPS)


def with_page(folder: Path, prompt: str) -> None:
    from PIL import Image

    from rfgs.export import write_ply
    from rfgs.runs.holding import hold
    from rfgs.viewer import Viewer
    from tests.viewer.viewer_fakes import FakeConfig, FakePrior, fake_distill, three_balls

    hold(folder)
    config = FakeConfig()
    with Viewer(port=0, about={"prompt": prompt}, folder=folder) as viewer:
        signal.signal(signal.SIGINT, lambda *_: viewer.gate.stop())
        print(f"viewer: {viewer.url}", flush=True)
        viewer.start(config, FakePrior())
        for step in fake_distill(10_000, seconds=0.2, config=config):
            if "paused" in prompt and step.index == 3:
                viewer.gate.pause()
            viewer.update(step)
            print(f"generate:  10%|█| {min(step.index, STEPS)}/{STEPS} [00:01<00:02, 1it/s]", flush=True)
            if viewer.stop_requested or may_end(folder, prompt):
                break
        write_ply(three_balls(300), folder / "splats.ply", comments=[f"prompt: {prompt}"])
        Image.new("RGB", (8 * 64, 64), (200, 60, 30)).save(folder / "turntable.png")
        changes = [change.as_dict() for change in viewer.changes]
        note(folder, prompt, "stopped" if viewer.stop_requested else "finished", STEPS, changes)
        viewer.finish([folder / "splats.ply"], three_balls(300))


if __name__ == "__main__":
    main()
