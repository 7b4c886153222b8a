"""CLIP's text side as the small models have it: transformers' own, to the last bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from rfgs.errors import UserError
from rfgs.models import embedded
from rfgs.priors import clip, load_prior

PROMPTS = [
    "a red cube, front view",
    "",
    "a BIG  yellow lamp on a wooden table, and much more than there is room for, so that the rest of it is cut off",
    "zebra's é x9",
]
CPU = torch.device("cpu")


def cases() -> list[tuple[str, str, Any]]:
    return [
        ("tiny-sd3", "", CLIPTextModelWithProjection),
        ("tiny-sd3", "_2", CLIPTextModelWithProjection),
        ("tiny-sd", "", CLIPTextModel),
    ]


@pytest.mark.parametrize(("model", "suffix", "kind"), cases())
def test_tokens_and_states_are_those_of_transformers(model: str, suffix: str, kind: Any) -> None:
    source = str(embedded.folder(model))
    theirs = CLIPTokenizer.from_pretrained(source, subfolder=f"tokenizer{suffix}")
    ours = clip.load_words(source, suffix)
    assert clip.is_plain(source, suffix) and ours.model_max_length == theirs.model_max_length
    assert ours.get_vocab() == theirs.get_vocab()
    assert set(ours.all_special_tokens) == set(theirs.all_special_tokens)
    told = {"padding": "max_length", "max_length": ours.model_max_length, "truncation": True}
    ids = ours(PROMPTS, **told).input_ids
    assert ids == theirs(PROMPTS, **told).input_ids
    for dtype in (torch.float32, torch.bfloat16):
        encoder = kind.from_pretrained(source, subfolder=f"text_encoder{suffix}", torch_dtype=dtype).eval()
        found = clip.load_encoder(source, suffix, device=CPU, dtype=dtype)(torch.tensor(ids))
        with torch.no_grad():
            expected = encoder(torch.tensor(ids), output_hidden_states=True)
        assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
        assert torch.equal(found.hidden_states[-2], expected.hidden_states[-2])
        if kind is CLIPTextModelWithProjection:
            assert found.text_embeds is not None and torch.equal(found.text_embeds, expected.text_embeds)


def test_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(embedded.folder("tiny-sd3"), folder)
    file = folder / "text_encoder" / clip.WEIGHTS
    weights = load_file(file)
    del weights["text_model.encoder.layers.1.mlp.fc1.bias"]
    save_file(weights, file)
    with pytest.raises(UserError, match=r"text_encoder/ lacks the weights of encoder.layers.1.mlp.fc1.bias"):
        load_prior(folder).embed(["a red cube"])


def test_what_is_of_another_kind_is_left_to_transformers(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(embedded.folder("tiny-sd"), source)
    config = source / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"gelu"', '"quick_gelu"'))
    assert not clip.is_plain(str(source), "")
    (source / "tokenizer" / clip.TOKENS).unlink()
    assert not clip.is_plain(str(source), "_3")
