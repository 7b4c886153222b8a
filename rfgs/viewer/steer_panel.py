"""The Steer panel: settings of the loop that may be changed while it runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import viser

from rfgs.distill.view_prompts import SIDES
from rfgs.errors import UserError
from rfgs.guidance import find_guide, guides, value_of
from rfgs.models.words import Knowledge
from rfgs.settings import Setting, declared
from rfgs.viewer.background import Report
from rfgs.viewer.steering import Change, Steering
from rfgs.viewer.widgets import as_text, guarded, set_value, small

TEXTS = ("prompt", "negative_prompt")
FIRST = ("guidance_scale",)
"""What a maker turns; the rest is folded away."""
LABELS = {
    "negative_prompt": "What it should not be",
    "guidance_scale": "Prompt strength",
    "final_guidance_scale": "Prompt strength, at the end",
    "guidance": "Method",
    "noise_range": "Noise, at the start",
    "final_noise_range": "Noise, at the end",
    "lr_means": "Pace of places",
    "lr_quats": "Pace of turns",
    "lr_scales": "Pace of sizes",
    "lr_opacities": "Pace of opacities",
    "lr_colors": "Pace of colors",
    "lr_lora": "Pace of the LoRA",
}
"""Names for people; what is not in here is called as the setting is. Each setting's own help stands behind its label."""
SHOWN_CHANGES = 6


class SteerPanel:
    """Made inside the container that will hold it, for the fields of one configuration.

    Args:
        gui: the server's.
        config: the loop's settings, a dataclass. It is only read here.
        steering: gets the wishes.
        changed: called after a wish.
        check_text: gets a field and its text; raises UserError for one that the prior would not take, or returns a remark on
            it, "" for none. It is called on a thread of the page, one call at a time.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        config: Any,
        steering: Steering,
        report: Report,
        changed: Callable[[], None] = lambda: None,
        *,
        check_text: Callable[[str, str], str] = lambda field, text: "",
    ) -> None:
        self._gui, self._config, self._steering = gui, config, steering
        self._report, self._changed, self._check_text = report, changed, check_text
        offered = {name: one for name, one in declared(type(config)).items() if one.steer}
        # In effect until another one is applied, which keeps a prompt that nobody touched out of the record.
        self._texts = {name: steering.current(config, name) or "" for name in TEXTS if name in offered}
        self._handles: list[Any] = []
        self._ended = False
        if self._texts:
            self._add_texts()
        for name in FIRST:
            if name in offered:
                self._add_input(offered[name])
        self._log = gui.add_html("")
        with gui.add_folder("Advanced", expand_by_default=False):
            for name, one in offered.items():
                if name == "guidance":
                    self._add_guidance(one)
                elif name not in (*TEXTS, *FIRST):
                    self._add_input(one)

    def show(self, changes: list[Change]) -> None:
        """Lists what the next step will be given, if there is one, and the newest of `changes`."""
        waiting = {} if self._ended else self._steering.waiting(self._config)
        lines = "".join(
            f"<div>with the next step: {label(field).lower()} → <b>{as_text(value)}</b></div>"
            for field, value in waiting.items()
        )
        if self._ended:
            lines = "<div>The run has ended, and there is nothing to steer any more.</div>"
        lines += "".join(
            f"<div>from step {change.step}: {label(change.field).lower()} "
            f"{as_text(change.old)} → <b>{as_text(change.new)}</b></div>"
            for change in reversed(changes[-SHOWN_CHANGES:])
        )
        self._log.content = small(lines)

    def end(self) -> None:
        """Lets nothing be changed any more: no step will see it."""
        self._ended = True
        for handle in self._handles:
            handle.disabled = True

    def _add_texts(self) -> None:
        # Every key typed is an event, and a new text costs a pass through the text encoders: so there is a button.
        inputs = {
            name: self._gui.add_text(label(name), value, multiline=True)
            for name, value in self._texts.items()
        }
        button = self._gui.add_button("Apply text", icon=viser.Icon.CHECK)
        answer = self._gui.add_html("")
        one_at_a_time = threading.Lock()  # Who is impatient clicks twice while text encoders are loaded.

        def apply() -> None:
            remarks = []
            with one_at_a_time:
                for name, given in inputs.items():
                    text = given.value.strip()
                    if text == self._texts[name]:
                        continue
                    if name == "prompt" and not text:
                        raise UserError("the prompt is empty")
                    try:
                        remarks.append(self._check_text(name, text))
                    except UserError as refused:
                        # To be read at leisure, and not for the seconds that a notification stays.
                        remarks.append(str(refused))
                        continue
                    self._texts[name] = text
                    self._steering.wish(name, text)
            lines = "".join(f"<div>{as_text(remark)}</div>" for remark in remarks if remark)
            answer.content = small(f'<div style="color:#fab005">{lines}</div>' if lines else "")

        button.on_click(guarded(self._report, "Apply text", apply, self._changed))
        self._handles += [*inputs.values(), button]

    def _add_guidance(self, guidance: Setting) -> None:
        """A choice among the guidances for the same kind of model, and the settings that only they have."""
        used = self._config.guidance
        fitting = {name: guide for name, guide in guides().items() if guide.kind == find_guide(used).kind}
        fitting.setdefault(used, find_guide(used))
        choice = self._add_input(replace(guidance, type=Literal[tuple(fitting)]))
        settings = {name: declared(guide.settings) for name, guide in fitting.items()}
        own = {name: one for known in settings.values() for name, one in known.items() if one.steer}
        inputs = {name: self._add_input(one) for name, one in own.items()}

        def show_own() -> None:
            """Only what the chosen guidance reads."""
            for name, handle in inputs.items():
                if handle is not None:
                    handle.visible = name in settings.get(choice.value, ())

        show_own()
        choice.on_update(guarded(self._report, label("guidance"), show_own))

    def _add_input(self, setting: Setting) -> Any:
        """Its input; None for what is off and has no value to show."""
        gui, title, value = self._gui, label(setting.name), value_of(self._config, setting.name)
        handle: viser.GuiInputHandle
        if value is None:
            return None
        if setting.choices:
            handle = gui.add_dropdown(title, setting.choices, initial_value=value, hint=setting.help)
        elif setting.base is bool:
            handle = gui.add_checkbox(title, value, hint=setting.help)
        elif setting.is_pair:
            low, high = setting.least, setting.most
            handle = gui.add_multi_slider(
                title,
                min=0.0 if low is None else low,
                max=1.0 if high is None else high,
                step=0.01,
                initial_value=value,
                min_range=0.01,
                hint=setting.help,
            )
        elif isinstance(setting.steer, tuple):
            low, high = setting.steer
            step = 1 if setting.base is int else 0.5
            ends = setting.base(min(low, value)), setting.base(max(high, 2 * value))
            handle = gui.add_slider(
                title, min=ends[0], max=ends[1], step=step, initial_value=value, hint=setting.help
            )
        else:
            grain = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1e-3
            handle = gui.add_number(
                title, value, min=setting.least, step=1 if setting.base is int else grain, hint=setting.help
            )

        good = value

        def wish() -> None:
            nonlocal good
            # What comes from a page need not be what its inputs would send.
            try:
                good = setting.checked(handle.value)
            except UserError:
                set_value(handle, good)  # No page is left with a value that no step will see.
                raise
            self._steering.wish(setting.name, good)

        handle.on_update(guarded(self._report, title, wish, self._changed))
        self._handles.append(handle)
        return handle


def label(field: str) -> str:
    """A field's name as words: "guidance_scale" is "Prompt strength", "inner_steps" is "Inner steps"."""
    return LABELS.get(field) or field.replace("_", " ").capitalize()


def check_text(prior: Any, field: str, text: str, *, any_words: bool = False) -> str:
    """Checks a text's words as the command line does, and tries it on the prior, so that one it cannot take is refused in
    the page and never reaches the loop.

    It embeds all that the loop will ask for. The prior remembers it, and so a big model's text encoders, which were
    freed, are loaded once, here, and the loop never waits for them.

    Returns:
        A remark on words that the prior has never seen, or "".

    Raises:
        UserError: a prompt that names a thing which it has never seen, unless `any_words` lets it through.
    """
    knowledge = Knowledge(prior.name, prior.vocabulary, prior.kind)
    word = knowledge.unknown_thing(text) if field == "prompt" and not any_words else None
    if word:
        near = ", ".join(knowledge.nearest(word))
        raise UserError(knowledge.never_seen(word) + (f" Nearest: {near}." if near else ""))
    remark = knowledge.remark(text)
    prior.embed([text, *[f"{text}, {side}" for side in SIDES]] if field == "prompt" else [text])
    return remark
