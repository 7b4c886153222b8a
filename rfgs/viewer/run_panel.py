"""The Run panel: what is being made, how far it is, and the buttons that hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import viser

from rfgs.viewer.background import Report
from rfgs.viewer.gate import Gate
from rfgs.viewer.progress import Progress, clock
from rfgs.viewer.widgets import as_text, guarded, set_value

STATE_COLORS = {"running": "#4dabf7", "paused": "#fab005", "stopping": "#fab005", "finished": "#51cf66"}
LABEL_STYLE = "opacity:0.6;padding-right:0.9em;white-space:nowrap;vertical-align:top"
VALUE_STYLE = "overflow-wrap:anywhere;font-variant-numeric:tabular-nums"


class RunPanel:
    """Made inside the container that shall hold it.

    Args:
        gui: the server's.
        gate: closed and opened by the buttons.
        about: what does not change, by label: prompt, backend, guidance.
        changed: called after a button changed the gate.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        gate: Gate,
        about: Mapping[str, str],
        report: Report,
        changed: Callable[[], None],
    ) -> None:
        self._gate, self._about = gate, dict(about)
        self._status = gui.add_html("")
        self._bar = gui.add_progress_bar(0.0)
        self._pause = gui.add_button("Pause", icon=viser.Icon.PLAYER_PAUSE)
        self._resume = gui.add_button("Resume", icon=viser.Icon.PLAYER_PLAY, visible=False)
        self._once = gui.add_button("Step once", icon=viser.Icon.PLAYER_TRACK_NEXT, color="gray")
        self._stop = gui.add_button(
            "Stop & export",
            icon=viser.Icon.PLAYER_STOP,
            color="red",
            hint="End the run after this step and write its files",
        )
        self._problem = gui.add_html("", visible=False)
        for button, action in (
            (self._pause, gate.pause),
            (self._resume, gate.resume),
            (self._once, gate.step_once),
            (self._stop, gate.stop),
        ):
            button.on_click(guarded(report, button.label, action, changed))

    def describe(self, label: str, value: str) -> None:
        """Changes a line of what the run is about."""
        self._about[label] = value

    def show(self, progress: Progress) -> None:
        """Writes the state of a run that goes on."""
        paused, stopping = self._gate.paused, self._gate.stop_requested
        state = "stopping" if stopping else "paused" if paused else "running"
        self._write(state, progress.rows())
        set_value(self._bar, progress.percent)
        self._pause.visible, self._resume.visible = not paused, paused
        for button in (self._pause, self._resume, self._once, self._stop):
            button.disabled = stopping

    def finish(self, progress: Progress, lines: list[str]) -> None:
        """Says that the run ended, with `lines` such as the files it wrote, and takes the buttons away."""
        rows = {
            "step": f"{progress.index} / {progress.total}",
            "elapsed": clock(progress.elapsed()),
            "splats": f"{progress.splats:,}",
        }
        self._write("finished", rows, lines)
        set_value(self._bar, progress.percent)
        for button in (self._pause, self._resume, self._once, self._stop):
            button.visible = False

    def warn(self, message: str) -> None:
        """Shows the newest problem of the page itself; the run is not touched by it."""
        self._problem.content = (
            '<div style="padding:0.4em 0.9em;font-size:0.8em;color:#ff8787">The viewer had a problem, '
            f"the run goes on: {as_text(message)}</div>"
        )
        self._problem.visible = True

    def _write(self, state: str, rows: Mapping[str, str], lines: list[str] | None = None) -> None:
        badge = f'<b style="color:{STATE_COLORS[state]}">● {state.capitalize()}</b>'
        cells = "".join(
            f'<tr><td style="{LABEL_STYLE}">{as_text(label)}</td>'
            f'<td style="{VALUE_STYLE}">{as_text(value)}</td></tr>'
            for label, value in {**self._about, **rows}.items()
            if value
        )
        tail = "".join(f'<div style="{VALUE_STYLE}">{as_text(line)}</div>' for line in lines or [])
        self._status.content = (
            f'<div style="padding:0.4em 0.9em 0.6em;font-size:0.85em;line-height:1.45">{badge}'
            f'<table style="border-spacing:0;padding:0.3em 0">{cells}</table>{tail}</div>'
        )
