"""Pages of files: splats side by side, and runs with a slider over their time."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import viser

from rfgs.errors import UserError
from rfgs.export import comments_of, read
from rfgs.export.framing import framing
from rfgs.runs.folders import read_record
from rfgs.splats import Splats
from rfgs.viewer.aim import Aim
from rfgs.viewer.page import Page, Served
from rfgs.viewer.save_panel import SavePanel
from rfgs.viewer.view_panel import ViewPanel
from rfgs.viewer.widgets import as_text, guarded, set_value, small, value_of

SNAPSHOT = re.compile(r"(\d+)\.ply$")
MOMENT = 0.8
"""Seconds from one snapshot to the next while they are played."""
SPACING = 2.2
"""Between the centers of neighbors, in radii of the largest."""


@dataclass
class Exhibit:
    """Something shown: one file, or the snapshots of a run."""

    name: str
    frames: list[tuple[str, Path]]
    """What to call each moment, and its file, in order of time."""
    splats: dict[int, Splats] = field(default_factory=dict)
    """By frame, those read so far."""
    steps: list[int] = field(default_factory=list)
    """Of each frame, how many steps its run had made; empty for a file, which has no time."""

    @cached_property
    def comments(self) -> list[str]:
        """What the last file says of itself, such as "prompt: a red mug"."""
        return comments_of(self.frames[-1][1])

    def frame_at(self, step: int) -> int:
        """The frame that a run stood at after `step` steps: the newest one until then, or its first; a file's only one."""
        return max(bisect_right(self.steps, step) - 1, 0)

    def read(self, index: int) -> Splats:
        """The splats of a frame, from its file or from memory; past its end, those of the last."""
        index = min(index, len(self.frames) - 1)
        if index not in self.splats:
            self.splats[index] = read(self.frames[index][1])
        return self.splats[index]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """What to call files and folders: their own names, with as many of the folders they are in as tell equal ones apart."""
    # Names are bytes on Linux, and need not be any text that can be sent to a browser.
    parts = [
        [part.encode("utf-8", "replace").decode() for part in path.resolve().parts[1:]] or ["/"]
        for path in paths
    ]
    names = []
    for mine in parts:
        others = [other for other in parts if other != mine]
        length = next(
            (n for n in range(1, len(mine)) if all(other[-n:] != mine[-n:] for other in others)), len(mine)
        )
        names.append("/".join(mine[-length:]))
    return names


def exhibit(path: Path, name: str) -> Exhibit:
    """What `path` has to show under a name: a splat file, or a run's folder with its asset and the snapshots it kept.

    Snapshots are the files `*<step>.ply` in the folder "snapshots".

    Raises:
        UserError: nothing to show there.
    """
    if not path.is_dir():
        return Exhibit(name, [(name, path)])
    numbered = [
        (int(found.group(1)), file)
        for file in (path / "snapshots").glob("*.ply")
        if (found := SNAPSHOT.search(file.name))
    ]
    frames = [(f"step {step}", file) for step, file in sorted(numbered)]
    steps = [step for step, _ in sorted(numbered)]
    if (path / "splats.ply").exists():
        frames.append(("end", path / "splats.ply"))
        steps.append(max(_steps_done(path), steps[-1] if steps else 0))
    if not frames:
        raise UserError(
            f"{path}: holds no splats.ply; give a splat file or the folder of a run that has written one"
        )
    return Exhibit(name, frames, steps=steps)


def _steps_done(folder: Path) -> int:
    """How many steps a run has made, as its record has it; 0 where that does not say."""
    try:
        done = read_record(folder).get("steps_done")
    except UserError:
        return 0
    return done if isinstance(done, int) and 0 <= done < 2**31 else 0


class FileViewer(Served):
    """Serves a page of files from its making until `close`; see `view_files`."""

    def __init__(
        self,
        exhibits: Sequence[Exhibit],
        host: str,
        port: int,
        *,
        server_render: bool,
        origin: str | None = None,
    ) -> None:
        self.exhibits = exhibits
        # Everything is read once before there is a page, so that a damaged file is the user's to hear of.
        first = [one.read(len(one.frames) - 1) for one in exhibits]
        balls = [framing(splats) for splats in first]
        radius = max(r for _, r in balls)
        half = SPACING * radius * (len(exhibits) - 1) / 2
        # Seen from the front, +Y is on the right: the first file stands on the left.
        self._positions = [
            (-x, -y - half + index * SPACING * radius, -z) if len(exhibits) > 1 else (0.0, 0.0, 0.0)
            for index, ((x, y, z), _) in enumerate(balls)
        ]
        self._times = sorted({step for one in exhibits for step in one.steps})
        self._step = self._times[-1] if self._times else 0
        self._time: tuple[Any, Any] | None = None
        """The slider over time and its switch to play, where there is time."""
        self._page = Page(host, port, title="rfgs view", origin=origin)
        if len(exhibits) == 1:
            self._page.open_at(Aim.at(balls[0][0], radius))
        else:
            # Straight from the front, so that all are equally near.
            self._page.open_at(Aim(radius=radius, half_width=half + radius, azimuth=0.0))
            for index, one in enumerate(exhibits):
                place = (0.0, index * SPACING * radius - half, -1.15 * radius)
                self._page.server.scene.add_label(f"/labels/{index}", one.name, position=place)
        self._page.stage.look.server_side = server_render
        self._add_panels()
        self._page.add_job("splats", self._show, period=0.05)
        self._page.add_job("play", self._play, period=MOMENT)
        self._page.wake()

    def _add_panels(self) -> None:
        page = self._page
        gui = page.server.gui
        tabs = gui.add_tab_group()
        with tabs.add_tab("View", viser.Icon.EYE):
            self._summary = gui.add_html("")
            if len(self._times) > 1:
                self._add_time(gui)
            view_panel = ViewPanel(
                gui, page.stage, page.turntable, page.report, page.wake, lambda: page.aim, with_cameras=False
            )
            trouble = gui.add_html("")
        with tabs.add_tab("Save", viser.Icon.DOWNLOAD):
            name = "-".join(Path(one.name).stem for one in self.exhibits)[:60]
            comments = self.exhibits[0].comments if len(self.exhibits) == 1 else []
            SavePanel(gui, page.stage, page.report, name, of_run=False, comments=comments)

        def warn(line: str) -> None:
            trouble.content = small(f"<b>Problem:</b> {as_text(line)}")

        page.on_problem = warn
        page.on_spared = view_panel.show_spared

    def _add_time(self, gui: viser.GuiApi) -> None:
        ends = self._times[0], self._times[-1]
        slider = gui.add_slider(
            "Step", min=ends[0], max=ends[1], step=1, initial_value=ends[1], hint="What stood after so many"
        )
        play = gui.add_checkbox("Play", False, hint="From the first snapshot to the last")
        self._time = slider, play

        def move() -> None:
            self._step = int(value_of(slider))

        def start() -> None:
            if play.value and self._step >= ends[1]:
                set_value(slider, ends[0])

        slider.on_update(guarded(self._page.report, "Step", move, self._page.wake))
        play.on_update(guarded(self._page.report, "Play", start, self._page.wake))

    def _play(self) -> None:
        """One moment further while that is wanted; at the end it stops."""
        if self._time is None or not self._time[1].value:
            return
        slider, play = self._time
        later = [step for step in self._times if step > self._step]
        if len(later) > 1:
            set_value(slider, later[0])  # Which wakes this job again, for the next.
        else:
            set_value(slider, self._times[-1])
            set_value(play, False)

    def _show(self) -> None:
        lines = []
        for index, (one, position) in enumerate(zip(self.exhibits, self._positions, strict=True)):
            frame = one.frame_at(self._step)
            splats = one.read(frame)
            self._page.stage.put(f"/files/{index}", splats, position)
            moment = one.frames[frame][0]
            when = f", {moment}" if len(one.frames) > 1 else ""
            lines.append(f"<div><b>{as_text(one.name)}</b>{when}: {len(splats):,} splats</div>")
            if one.comments:
                lines.append(f"<div>{as_text(', '.join(one.comments))}</div>")
        self._page.draw()
        self._summary.content = small("".join(lines))


def view_files(
    paths: Iterable[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    server_render: bool = False,
    origin: str | None = None,
) -> FileViewer:
    """Opens a page that shows splat files, and runs by their folders, side by side.

    Args:
        paths: files that `rfgs.export.read` knows, or run folders.
        host: interface to listen on; the default is reachable from this machine only.
        port: first port to try; the next free one is taken.
        server_render: whether the page opens with pictures rendered here instead of splats drawn by the browser.
        origin: under which a forwarder shows the page, such as "https://name.example".

    Raises:
        UserError: no path, a file that is missing, damaged or holds no splats, or an address that cannot be
            listened on.
    """
    places = [Path(path) for path in paths]
    if not places:
        raise UserError("view: no file given; give splat files (.ply) or the folders of runs")
    exhibits = [exhibit(place, name) for place, name in zip(places, distinct_names(places), strict=True)]
    return FileViewer(exhibits, host, port, server_render=server_render, origin=origin)


def view(
    paths: Iterable[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    server_render: bool = False,
    origin: str | None = None,
    say: Callable[[str], None] = print,
    on_open: Callable[[str], object] = lambda url: None,
) -> None:
    """Serves `view_files` until Ctrl-C, and says where; `on_open` is called with the address once it is served."""
    with view_files(paths, host=host, port=port, server_render=server_render, origin=origin) as viewer:
        say(f"viewer: {viewer.url} (Ctrl-C ends it)")
        on_open(viewer.url)
        viewer.wait()
