"""T3Bench's other half, alignment: 12 views in words, the words made one caption, and points for what of the prompt is in it.

T3Bench asks BLIP-2 for the words and GPT-4 of 2023, which nobody can ask any more, for the caption and the points. Here both are
what the user gives, a model on this machine or a function, and what they are asked is worded anew: the figure compares assets
that the same two judged, and is *not comparable* to published ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.measure.named import find_function, is_named

Captioner = Callable[[Tensor], Sequence[str]]
"""Pictures [B, 3, H, W] in [0, 1] -> what each shows, B texts."""
Judge = Callable[[str], str]
"""A question -> the answer."""

MERGE = (
    "Below are descriptions of one and the same 3D object, seen from different sides. Write one short caption of the object that "
    "holds what they agree on. Say nothing of the background. Answer with the caption alone.\n\n{descriptions}\n\nCaption:"
)
POINTS = (
    "A 3D object was asked for with a prompt, and described by somebody who does not know the prompt. How much of what the "
    "prompt asks for does the description confirm? What it says beyond the prompt does not count against it; colors and "
    "details that it gets right count for it. Answer with one whole number from 1 (nothing) to 5 (everything).\n\n"
    "Prompt: {prompt}\nDescription: {caption}\n\nNumber:"
)
TOP_P = 0.9
"""Of the words' probability, what captions are drawn from, with a seed."""


def points(pictures: Tensor, prompt: str, captioner: Captioner, judge: Judge) -> tuple[int | None, str]:
    """The judge's points for an asset, 1 to 5, and the caption that they are for; None where the answer has no number in it.

    Args:
        pictures: of the asset (`rfgs.measure.t3bench.caption_views`), [12, 3, H, W].

    Raises:
        UserError: the captioner gives another number of texts than pictures.
    """
    said = [str(text).strip() for text in captioner(pictures)]
    if len(said) != len(pictures):
        raise UserError(
            f"--captioner: said {len(said)} texts of {len(pictures)} pictures; it has to be one each"
        )
    described = "\n".join(f"View {number}: {text}" for number, text in enumerate(said, 1))
    caption = str(judge(MERGE.format(descriptions=described))).strip().strip("\"'")
    answer = re.search(r"\d+(\.\d+)?", str(judge(POINTS.format(prompt=prompt, caption=caption))))
    found = round(float(answer[0])) if answer else None
    return (found if found in range(1, 6) else None), caption


def load_captioner(text: str, *, device: str = "cpu") -> Captioner:
    """A captioner: "module:function", or a folder with a model that transformers puts pictures into words with, such as BLIP-2.

    Raises:
        UserError: it cannot be loaded.
    """
    if is_named(text):
        return find_function("--captioner", text)
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = _loaded("--captioner", text, AutoProcessor)
    model: Any = _loaded("--captioner", text, AutoModelForImageTextToText).eval().to(device)

    @torch.no_grad()
    def captions(pictures: Tensor) -> list[str]:
        bytes_of = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        asked = processor(images=[Image.fromarray(picture) for picture in bytes_of], return_tensors="pt")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            told = model.generate(**asked.to(device), do_sample=True, top_p=TOP_P, max_new_tokens=30)
        return processor.batch_decode(told, skip_special_tokens=True)

    return captions


def load_judge(text: str, *, device: str = "cpu") -> Judge:
    """A judge: "module:function", or a folder with a language model that transformers loads; it says its likeliest words.

    Raises:
        UserError: it cannot be loaded.
    """
    if is_named(text):
        return find_function("--judge", text)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = _loaded("--judge", text, AutoTokenizer)
    model: Any = _loaded("--judge", text, AutoModelForCausalLM).eval().to(device)

    @torch.no_grad()
    def answer(question: str) -> str:
        if tokenizer.chat_template:
            talk = [{"role": "user", "content": question}]
            question = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        asked = tokenizer(question, return_tensors="pt").to(device)
        told = model.generate(**asked, do_sample=False, max_new_tokens=60)
        return tokenizer.decode(told[0, asked.input_ids.shape[1] :], skip_special_tokens=True)

    return answer


def _loaded(flag: str, text: str, kind: Any) -> Any:
    if not Path(text).is_dir():
        raise UserError(f"{flag} {text}: no such folder; give one with a model, or module:function")
    try:
        return kind.from_pretrained(text, local_files_only=True)
    except Exception as error:  # transformers raises whatever it likes.
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{flag} {text}: transformers cannot load it ({line})") from error
