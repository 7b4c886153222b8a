"""Whether a model knows the words of a prompt, told before anything is loaded: no torch and no numpy here.

Our own small models say in `rfgs.json` which words they were trained on. A thing that such a model has never seen cannot
be made, so the prompt is refused; other words that it has never seen are left to it, with a remark.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from rfgs.errors import UserError
from rfgs.models import catalog, memory
from rfgs.models.families import Kind
from rfgs.models.kind import kind_of
from rfgs.models.vocabulary import NEAR, QUALIFIERS, THINGS

_PARTS = re.compile(r"[,;:.!?()\[\]\n]+(?:\s|$)")
"""Where one part of a prompt ends."""
_BETWEEN = re.compile(
    r" (?:on top of|next to|in front of|on|beside|and|in|inside|into|under|below|over|above|behind|near|by|at|from|"
    r"(?!wearing)[^\W\d_]+ing(?= (?:an?|the|its|his|her|their|two|some) ))(?= |$)"
)
"""What stands between two things, whether or not the world can draw it: a preposition, or a verb before an article."""
_DESCRIBES = re.compile(r" (?:with|without|that|which|who|made|wearing)(?= |$)")
"""What follows tells how the thing before looks."""
_LOOSE = frozenset("up down away alone together asleep outside here there please".split())
_NOUNS = frozenset(
    "building painting earring string spring pudding wedding clothing butterfly family".split()
)
"""Words that only look like such as describe."""

_SAY_NOTHING = frozenset("of made one single".split())
"""Words that no model needs."""
_SHOWN = 8
"""Words that a remark names at most."""


@dataclass(frozen=True)
class Knowledge:
    """The words of one model."""

    name: str
    vocabulary: frozenset[str] | None
    """In lower case; None where any text makes sense."""
    kind: Kind = "flow"

    @staticmethod
    def of(source: str) -> Knowledge:
        """Of the model `source` (as `rfgs.models.available.find_model` takes it), by the file beside its weights. No network."""
        said = catalog.locate(source).about()
        return Knowledge(source, said.vocabulary, kind_of(source) or "flow")

    @cached_property
    def things(self) -> dict[str, str]:
        """From every name of a thing that it was trained on to the plainest such name of the same thing."""
        known = self.vocabulary or frozenset()
        found, named = {}, set(QUALIFIERS)
        for names in THINGS.values():
            able = [name for name in names if known.issuperset(name.split())]
            found.update(dict.fromkeys(able, able[0] if able else ""))
            named.update(word for name in names for word in name.split())
        # Words of another world, or of one that has grown.
        return found | {word: word for word in sorted(known - named)}

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that it was never told, in order, each once."""
        if self.vocabulary is None:
            return []
        return list(dict.fromkeys(word for word in _words(text) if word not in self.vocabulary))

    def unknown_thing(self, prompt: str) -> str | None:
        """The first thing named in `prompt` that it has never seen, or what stands in the place of one; None if there is none.

        Things are what the first part of a prompt that names any is about: what is behind a comma or a full stop tells more
        of them. Of words that only describe ("an antique wooden cube", "a cube with feathers") none decides.
        """
        if self.vocabulary is None:
            return None
        first = None
        for text in filter(None, map(_plain, _PARTS.split(prompt))):
            phrases = [_DESCRIBES.split(phrase)[0] for phrase in _BETWEEN.split(text)]
            judged = [self._judge(phrase) for phrase in phrases]
            strange = next((word for _, word in judged if word), None)
            nameless = [not known and not word for known, word in judged]
            first = first or phrases[0].strip()
            if all(nameless):
                continue
            # In "a red and white cube" the first phrase need not name anything.
            return strange or (phrases[0].strip() or None if nameless[0] and " and " not in text else None)
        return first or " ".join(prompt.split()) or "nothing"

    def _judge(self, phrase: str) -> tuple[str | None, str | None]:
        """The known thing that a phrase names, and the word for one that is not known; None where there is none."""
        # "a statue of a cat" is a cat, "a cup of coffee" a cup, and "a photo of a horse" a horse.
        parts = [self._judge_noun(part.split()) for part in phrase.split(" of ")]
        named = [part for part in parts if part != (None, None)]
        plain = [part for part in named if part[1] is None]
        return (plain[:1] or named[-1:] or [(None, None)])[0]

    def _judge_noun(self, words: list[str]) -> tuple[str | None, str | None]:
        """The same of a phrase without "of"."""
        known, end = self._last_thing(words)
        rest = [word for word in words[end:] if word not in QUALIFIERS | _LOOSE]
        if known is None:
            # "a horse running" is a horse.
            while len(rest) > 1 and _describes(rest[-1]):
                rest.pop()
        else:
            # "a cat sleeping" is a cat, "a cat playing guitar" wants a guitar, and "cat food" is no cat.
            rest = [word for word in rest if not _describes(word)]
        return known, rest[-1] if rest else None

    def _last_thing(self, words: list[str]) -> tuple[str | None, int]:
        """The last thing that is known, and where its words end."""
        for end in range(len(words), 0, -1):
            for start in range(max(end - 3, 0), end):
                name = " ".join(words[start:end])
                if name in self.things:
                    return name, end
        return None, 0

    def nearest(self, word: str) -> list[str]:
        """At most three things that it knows and that may be meant by `word`, by meaning or else by spelling."""
        word = word.rsplit(maxsplit=1)[-1]
        singular = [word, word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)]
        same = [thing for thing, names in THINGS.items() if set(singular) & set(names)]
        alike = [thing for thing, words in NEAR.items() if set(singular) & set(words.split())]
        if not same and not alike:
            close = difflib.get_close_matches(word, self.things, n=3, cutoff=0.66 if len(word) > 5 else 0.74)
            parts = [name for name in self.things if word in name.split()]
            return list(dict.fromkeys(self.things[name] for name in parts + close))[:3]
        able = [self.things.get(name) for thing in same + alike for name in THINGS.get(thing, ())[:1]]
        able += [self.things[name] for thing in same for name in THINGS[thing] if name in self.things]
        return list(dict.fromkeys(name for name in able if name))[:3]

    def refusal(self, word: str) -> str:
        """What a user is told whose prompt names a thing that it has never seen."""
        kinds = list(dict.fromkeys(self.things.values()))
        told = f'"{_short(word)}" is not among the {len(kinds)} thing{"s" * (len(kinds) != 1)} that {self.name} knows'
        near = self.nearest(word)
        told += f"; nearest: {', '.join(near)}" if near else ""
        others = [other for other in _embedded() if not other.unknown_thing(word)]
        fitting = [other for other in others if other.kind == self.kind] or others
        if fitting:
            named = f"--backend {fitting[0].name}"
            if fitting[0].kind != self.kind:
                named += f" --guidance {'sds' if fitting[0].kind == 'diffusion' else 'rfds-rev'}"
            told += f"; {named} knows it"
        else:
            told += f"; {_big(self.kind)}"
        told += "; --any-words goes on all the same"
        return told if near else f"{told}; what it knows: {', '.join(kinds)}"

    def never_seen(self, word: str) -> str:
        """The same for a page, where nobody types flags; what it knows, unless something near is told beside it."""
        kinds = list(dict.fromkeys(self.things.values()))
        known = "" if self.nearest(word) else f" It knows: {', '.join(kinds)}."
        many = "s" * (len(kinds) != 1)
        return f"{self.name} has never seen “{_short(word)}”: it knows {len(kinds)} thing{many}.{known}"

    def remark(self, *texts: str) -> str:
        """What a user is told of the words in `texts` that it has never seen; "" where there is none."""
        words = [word for word in self.unknown_words(" ".join(texts)) if word not in _SAY_NOTHING]
        if not words:
            return ""
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        shown = ", ".join(f'"{_short(word)}"' for word in words[:_SHOWN])
        return f"{self.name} knows a small world only, and not the word{'s' * (len(words) > 1)} {shown}{more}"

    def check(self, prompts: Mapping[str, str], negative: str = "", *, any_words: bool = False) -> str:
        """That every thing in some prompts is one that the model has seen.

        Args:
            prompts: each under what a message calls it, such as "--to", or "" where there is only one.
            negative: a negative prompt, which may name anything.
            any_words: let all of them through.

        Returns:
            A remark, in one line, on words that the model has never seen; "" for none.

        Raises:
            UserError: a thing is named that it has never seen.
        """
        for where, prompt in prompts.items():
            strange = None if any_words else self.unknown_thing(prompt)
            if strange:
                raise UserError((f"{where}: " if where else "") + self.refusal(strange))
        return self.remark(*prompts.values(), negative)


def check_text(text: str) -> str:
    """The text, if it is one.

    Raises:
        UserError: bytes of another encoding than the terminal's, which no tokenizer takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise UserError(f'"{shown}": is not text in this terminal\'s encoding; type it again') from error
    return text


def _words(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation; a hyphen parts two."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())


def _plain(text: str) -> str:
    """A text as words with one space before each."""
    return "".join(f" {word}" for word in _words(text))


def _describes(word: str) -> bool:
    """Whether a word that nobody knows looks like one that names no thing."""
    return word.isdigit() or (len(word) > 5 and word.endswith(("ing", "ly", "ed")) and word not in _NOUNS)


def _short(word: str) -> str:
    return word if len(word) <= 40 else word[:39] + "…"


def _embedded() -> Iterator[Knowledge]:
    """What the models know that are part of the package."""
    for backend in catalog.BACKENDS:
        if backend.hub_id is None:
            knowledge = Knowledge.of(backend.name)
            if knowledge.vocabulary is not None:
                yield knowledge


def _big(kind: Kind) -> str:
    """What a model that knows almost everything needs."""
    backend = catalog.find_backend("flux2-klein" if kind == "flow" else "sd15")
    card = next(size for size in memory.CARDS if size * memory.GIB >= memory.least(backend.name))
    license = f", and its license ({backend.license}) accepted" if backend.gated else ""
    return f"--backend {backend.name} knows nearly everything and needs a GPU of {card} GiB or more{license}"
