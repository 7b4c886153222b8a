"""What somebody may ask for in the studio, checked before it waits for its turn. No torch here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from rfgs.errors import UserError
from rfgs.models import available, catalog, machine, memory
from rfgs.models.cuda import cuda_problem, gsplat_problem
from rfgs.models.words import Knowledge, check_text
from rfgs.runs.job import QualityName

LONGEST_PROMPT = 500
"""Letters."""
MOST_STEPS = 1_000_000
QUALITIES: tuple[str, ...] = get_args(QualityName)


class Unknown(UserError):
    """The prompt names a thing that the model has never seen."""

    def __init__(self, message: str, word: str, near: Sequence[str]) -> None:
        super().__init__(message)
        self.word, self.near = word, list(near)
        """The thing, and what the model knows that may be meant."""


@dataclass(frozen=True)
class Wish:
    """One run that was asked for: a new one, or an old one that is to go on."""

    name: str
    """Of its folder, in the studio's."""
    prompt: str
    backend: str = "tiny-sd3"
    quality: str = "normal"
    seed: int = 0
    any_words: bool = False
    start: str = ""
    """For a new one: the name of the folder beside its own whose splats it starts from; "" for a ball of grey ones."""
    resumes: bool = False
    steps: int | None = None
    """For one that goes on: how many there are to be; None leaves them as they are."""

    def flags(self, folder: str) -> list[str]:
        """What follows `rfgs generate`, with the path of its folder."""
        page = ["--no-open", "--port", "0"]
        if self.resumes:
            more = [] if self.steps is None else ["--steps", str(self.steps)]
            return ["--resume", folder, *more, *page]
        made = [self.prompt, "--backend", self.backend, "--quality", self.quality, "--seed", str(self.seed)]
        if self.start:
            made += ["--start", os.path.join(os.path.dirname(folder), self.start)]
        return [*made, *["--any-words"] * self.any_words, "--output", folder, *page]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def backends_here() -> list[tuple[str, str]]:
    """Name and summary of each backend that runs on this machine: those of rfgs, and big ones that the GPU has room for."""
    gpus = machine.gpus() if cuda_problem() is None and gsplat_problem() is None else []
    found = []
    ready = dict(available.overview(gpu=bool(gpus)))
    for backend in catalog.BACKENDS:
        if backend.hub_id is None:
            fits = ready[backend.name] == "ready"
        else:
            fits = bool(gpus) and backend.name in memory.FOOTPRINTS
            fits = fits and memory.plan(backend.name, gpus[0].memory) is not None
        if fits:
            found.append((backend.name, backend.summary))
    return found


def wish_of(asked: Mapping[str, Any], backends: Sequence[str]) -> Wish:
    """The wish for a new run, without a folder's name yet, that a page or a file states.

    Raises:
        Unknown: the prompt names a thing that the model has never seen, and `any_words` was not asked for.
        UserError: anything else that cannot be done.
    """
    prompt = asked.get("prompt", "")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError("Say what to make, such as: a red cube on a blue cylinder")
    prompt = check_text(" ".join(prompt.split()))
    if len(prompt) > LONGEST_PROMPT:
        raise UserError(f"The prompt has {len(prompt)} letters; at most {LONGEST_PROMPT} are taken")
    if prompt.startswith("-"):
        raise UserError("The prompt begins with a dash; begin with a word")  # It would be read as a flag.
    backend, quality, seed = asked.get("backend"), asked.get("quality"), asked.get("seed", 0)
    if not isinstance(backend, str) or backend not in backends:
        raise UserError(f"{backend!s:.40}: does not run here; there are {', '.join(backends)}")
    if not isinstance(quality, str) or quality not in QUALITIES:
        raise UserError(f"{quality!s:.40}: is not a quality; there are {', '.join(QUALITIES)}")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**53:  # What JavaScript keeps.
        raise UserError("The seed has to be a whole number, 0 or more")
    any_words = asked.get("any_words") is True
    knowledge = Knowledge.of(backend)
    word = None if any_words else knowledge.unknown_thing(prompt)
    if word:
        raise Unknown(knowledge.never_seen(word), word, knowledge.nearest(word))
    return Wish("", prompt, backend, quality, seed, any_words)


def remark_on(wish: Wish) -> str:
    """What is to be said of words that only describe and that the model has never seen; "" for nothing."""
    return Knowledge.of(wish.backend).remark(wish.prompt)
