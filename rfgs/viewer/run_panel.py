"""The Run panel: what is being made, how far it is, and the buttons that hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import viser

from rfgs.viewer.background import Report
from rfgs.viewer.gate import Gate
from rfgs.viewer.progress import Progress, clock
from rfgs.viewer.sheet import when_gone
from rfgs.viewer.widgets import as_text, guarded, set_value

BLUE, YELLOW, GREEN, RED = "#4dabf7", "#fab005", "#51cf66", "#ff8787"
STATES = {
    "preparing": (BLUE, "Getting ready"),
    "running": (BLUE, "Running"),
    "paused": (YELLOW, "Paused"),
    "stopping": (YELLOW, "Stopping after this step, and writing what there is"),
    "writing": (BLUE, "Writing its files"),
    "finished": (GREEN, "Finished"),
    "stopped": (GREEN, "Stopped early, and written"),
    "failed": (RED, "Failed"),
}
"""What there is to say of a run, and in which color."""
LABEL_STYLE = "opacity:0.6;padding-right:0.9em;white-space:nowrap;vertical-align:top"
VALUE_STYLE = "overflow-wrap:anywhere;font-variant-numeric:tabular-nums"


class RunPanel:
    """Made inside the container that will hold it.

    Args:
        gui: the server's.
        gate: closed and opened by the buttons.
        about: what does not change, by label: prompt, backend, guidance.
        changed: called after a button changed the gate.
        go_on, look_again: what to type in a terminal to that end, once the run's process is gone; "" for nothing.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        gate: Gate,
        about: Mapping[str, str],
        report: Report,
        changed: Callable[[], None],
        *,
        go_on: str = "",
        look_again: str = "",
    ) -> None:
        self._go_on, self._look_again, self._ended = go_on, look_again, False
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
        last = progress.total > 0 and progress.index >= progress.total
        state = "stopping" if stopping else "paused" if paused else "running"
        if last:
            state = "writing"
        elif state == "running" and not progress.total:
            state = "preparing"
        self._write(state, progress.rows())
        set_value(self._bar, progress.percent)
        self._pause.visible, self._resume.visible = not paused, paused
        for button in (self._pause, self._resume, self._once, self._stop):
            button.disabled = stopping or last

    def finish(self, progress: Progress, lines: Sequence[str], *, failed: bool = False) -> None:
        """Says that the run ended, with `lines` such as the files it wrote, and takes the buttons away."""
        early = progress.index < progress.total
        rows = {
            "step": f"{progress.index} of {progress.total}" if progress.total else "",
            "took": clock(progress.elapsed()),
            "splats": f"{progress.splats:,}" if progress.splats else "",
        }
        self._ended = True
        self._write("failed" if failed else "stopped" if early else "finished", rows, lines)
        set_value(self._bar, progress.percent)
        for button in (self._pause, self._resume, self._once, self._stop):
            button.visible = False

    def warn(self, message: str) -> None:
        """Shows the newest problem of the page itself; the run is not touched by it."""
        self._problem.content = (
            '<div style="padding:0.4em 0.9em;font-size:0.8em;color:#ff8787">This page had a problem'
            f"{'' if self._ended else ', the run goes on'}: {as_text(message)}</div>"
        )
        self._problem.visible = True

    def _write(self, state: str, rows: Mapping[str, str], lines: Sequence[str] = ()) -> None:
        color, words = STATES[state]
        cells = "".join(
            f'<tr><td style="{LABEL_STYLE}">{as_text(label)}</td>'
            f'<td style="{VALUE_STYLE}">{as_text(value)}</td></tr>'
            for label, value in {**self._about, **rows}.items()
            if value
        )
        tail = "".join(f'<div style="{VALUE_STYLE}">{as_text(line)}</div>' for line in lines)
        self._status.content = (
            f'<div style="padding:0.4em 0.9em 0.6em;font-size:0.85em;line-height:1.45">{self._gone(state)}'
            f'<b class="rfgs-state" style="color:{color}">● {words}</b>'
            f'<table style="border-spacing:0;padding:0.3em 0">{cells}</table>{tail}</div>'
        )

    def _gone(self, state: str) -> str:
        """What this page says once the run's process does not answer any more: what it was doing last, and how to go on."""
        if state == "finished":
            title, words, command = "Finished, and this page is closed", "To look again:", self._look_again
        elif state == "stopped":
            title, words, command = "Stopped, and this page is closed", "To go on:", self._go_on
        elif state == "failed":
            title, words, command = "Failed, and this page is closed", "To try again:", self._go_on
        else:
            title, command = "The run does not answer", self._go_on
            words = "Where its process has ended, this goes on from its last checkpoint:"
        typed = f'{words}<br><code style="user-select:all">{as_text(command)}</code>' if command else ""
        return when_gone(f'<b style="color:#ff8787">● {title}.</b><div style="{VALUE_STYLE}">{typed}</div>')
