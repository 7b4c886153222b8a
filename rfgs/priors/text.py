"""Text: encoders loaded when a prompt needs them and freed before the loop, and each prompt embedded only once."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfgs.models import weighing
from rfgs.models.about import about
from rfgs.models.places import cache_folder
from rfgs.priors import clip
from rfgs.priors.base import Condition
from rfgs.priors.parts import Setup, is_quantized, load_module, offload, revision

_MARGIN = 2 << 30
"""Bytes of GPU memory that have to stay free beside a text encoder, for its activations and the CUDA libraries."""


@dataclass(frozen=True, eq=False)
class TextPart:
    """A tokenizer with its encoder."""

    tokenizer: Any
    encoder: Any
    device: torch.device
    """Where the encoder computes, which is not where its weights are if those are offloaded."""

    def ids(self, prompts: Sequence[str], length: int | None = None) -> Tensor:
        """Token ids [B, L] where the encoder computes, padded and cut to `length` (None: what the tokenizer was made for)."""
        length = length or self.tokenizer.model_max_length
        ids = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True
        ).input_ids
        return torch.tensor(ids, device=self.device)


def load_text(encoder: Any, tokenizer: Any, source: str, suffix: str, setup: Setup) -> TextPart:
    """The text encoder in subfolder "text_encoder" + suffix, of class `encoder`, and the tokenizer beside it.

    One that does not fit into what is left of the GPU's memory stays on the CPU: T5 has 4.8 billion parameters, and a
    run needs it once.
    """
    words = _tokenizer(tokenizer, source, suffix)
    part = f"text_encoder{suffix}"
    home, dtype = _home(source, part, setup)
    # Our own small models are there at once: a bar of progress would only be in the way of the run's.
    with _no_progress_bar() if about(source).small else nullcontext():
        module = load_module(encoder, source, part, device=home, dtype=dtype, file=setup.file)
    _check_words(words, module.config.vocab_size, suffix)
    if setup.offload and not _is_quantized(source, part, setup):
        return TextPart(words, offload(module, setup.device), setup.device)
    return TextPart(words, module, home)


def load_clip(source: str, suffix: str, setup: Setup, *, projection: bool = False) -> TextPart:
    """`load_text` of CLIP's text encoder, with its projection or without."""
    if about(source).small and not setup.offload and setup.file is None and clip.is_plain(source, suffix):
        words = clip.load_words(source, suffix)
        encoder = clip.load_encoder(source, suffix, device=setup.device, dtype=setup.dtype)
        _check_words(words, encoder.config.vocab_size, suffix)
        return TextPart(words, encoder, setup.device)
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return load_text(kind, CLIPTokenizer, source, suffix, setup)


def _home(source: str, part: str, setup: Setup) -> tuple[torch.device, torch.dtype]:
    """Where a text encoder's weights are put, and in which precision, by the room that its files say it takes."""
    cpu = torch.device("cpu")
    if _is_quantized(source, part, setup):
        return setup.device, setup.dtype  # Where bitsandbytes can compute with it.
    if setup.device.type == "cuda" and not setup.offload:
        size = weighing.numbers(Path(source) / part, setup.file) * setup.dtype.itemsize
        if size + _MARGIN >= torch.cuda.mem_get_info(setup.device)[0]:
            return cpu, torch.bfloat16  # float16 is emulated on CPUs.
    return cpu if setup.offload else setup.device, setup.dtype


def _is_quantized(source: str, part: str, setup: Setup) -> bool:
    """Whether the weights that are loaded of a part, those of the folder or of a single file, were quantized before."""
    return is_quantized(source, part) and not (setup.file and part in setup.file.parts)


def _tokenizer(kind: Any, source: str, suffix: str) -> Any:
    return kind.from_pretrained(source, subfolder=f"tokenizer{suffix}", local_files_only=True)


def _check_words(words: Any, there: int, suffix: str) -> None:
    """That a tokenizer knows words, and none but the `there` of its encoder.

    One without a vocabulary loads, and takes all words for the same unknown one.
    """
    known = words.get_vocab()
    if set(known) <= set(words.all_special_tokens):
        raise OSError(f"tokenizer{suffix}/ has no vocabulary")
    if max(known.values()) >= there:
        raise OSError(
            f"tokenizer{suffix}/ knows {max(known.values()) + 1} words and text_encoder{suffix}/ {there}, so they are of two "
            "models"
        )


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers shows no bars meanwhile."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_t5(source: str, suffix: str, setup: Setup) -> TextPart:
    """`load_text` of T5; in 8 bit it takes half the memory, and is always on the GPU, which alone can compute with it."""
    from transformers import T5EncoderModel, T5TokenizerFast

    if setup.t5 != "8bit":
        return load_text(T5EncoderModel, T5TokenizerFast, source, suffix, setup)
    from transformers import BitsAndBytesConfig

    module = load_module(
        T5EncoderModel,
        source,
        f"text_encoder{suffix}",
        device=None,
        dtype=setup.dtype,
        file=setup.file,
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        device_map={"": setup.device},
    )
    words = _tokenizer(T5TokenizerFast, source, suffix)
    _check_words(words, module.config.vocab_size, suffix)
    return TextPart(words, module, setup.device)


class TextSide:
    """Makes conditions of prompts, and remembers them: in memory, and on disk where T5 makes them costly.

    `release` frees the encoders; a prompt that comes up after it loads them again, and frees them at once. Threads may share
    it: one that asks for what is known does not wait for another's new prompt, and no encoders are loaded twice.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        embed: Callable[[Any, Sequence[str]], Condition],
        *,
        device: torch.device,
        dtype: torch.dtype,
        key: str | None = None,
    ) -> None:
        """`load` gives the encoders and `embed` uses them; `key` names everything that embeddings depend on, None keeps
        them off the disk."""
        self._load, self._embed, self._device, self._dtype, self._key = load, embed, device, dtype, key
        self._encoders: Any = None
        self._keep = True
        self.say: Callable[[str], None] = lambda message: None
        """Told, in a line, what takes its time; see `rfgs.priors.phases.tell_text`."""
        self.reading = "reading the text encoders"
        self._known: dict[str, Condition] = {}
        self._learning = threading.RLock()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Condition:
        """B prompts, on the network's device and in its precision."""
        if any(prompt not in self._known for prompt in prompts):
            with self._learning:
                self._learn(prompts)
        return Condition.cat([self._known[prompt] for prompt in prompts])

    def _learn(self, prompts: Sequence[str]) -> None:
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._known:
                found = self._read(prompt)
                if found is not None:
                    self._known[prompt] = found
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if new:
            if self._encoders is None:
                self.say(self.reading)
                self._encoders = self._load()
            self.say(f"embedding {len(new)} prompt{'s' * (len(new) > 1)}")
            embedded = self._embed(self._encoders, new).to(self._device, self._dtype)
            for index, prompt in enumerate(new):
                self._known[prompt] = embedded[index]
                self._write(prompt)
            if not self._keep:
                self.release()

    def release(self) -> None:
        """Free the encoders' memory, and give it back to the system."""
        with self._learning:
            held, self._encoders, self._keep = self._encoders is not None, None, False
        if held:
            # accelerate's hooks hold what they offload in cycles, and nobody may be looking for garbage.
            gc.collect()
            # The C library keeps much of what was freed, in case it is wanted again.
            with suppress(AttributeError, OSError, TypeError):  # Not of glibc.
                ctypes.CDLL(None).malloc_trim(0)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _file(self, prompt: str) -> Path:
        name = hashlib.sha256(f"{self._key}\n{self._dtype}\n{prompt}".encode()).hexdigest()[:32]
        return cache_folder() / "embeddings" / f"{name}.safetensors"

    def _read(self, prompt: str) -> Condition | None:
        if self._key is None:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            if not self._file(prompt).is_file():
                return None
            return Condition(**load_file(self._file(prompt))).to(self._device, self._dtype)
        except (SafetensorError, OSError, TypeError):
            return None  # A file cut short is written anew.

    def _write(self, prompt: str) -> None:
        if self._key is None:
            return
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        condition, file = self._known[prompt], self._file(prompt)
        tensors = {"tokens": condition.tokens, "pooled": condition.pooled}
        part = file.with_suffix(f".{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({k: v.contiguous() for k, v in tensors.items() if v is not None}, part)
            part.replace(file)
        except (OSError, SafetensorError):
            # A full disk must not end a run: the embedding is in memory.
            with suppress(OSError):
                part.unlink(missing_ok=True)


def text_key(source: str, setup: Setup, *what: str) -> str:
    """Everything that a model's embeddings depend on: where it is, which version of it, T5's precision, and `what` else."""
    within = setup.file is not None and any(part.startswith("text") for part in setup.file.parts)
    single = [setup.file.revision()] if setup.file and within else []
    return "\n".join([source, revision(source), *what, setup.t5, *single])
