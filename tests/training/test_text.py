"""The tokenizer of the world's words, and the text condition against SD3's own pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from rfgs.tinyworld.language import vocabulary
from training.text import (
    BOS,
    EOS,
    MAX_TOKENS,
    TEXT_WIDTH,
    encode_text,
    new_text_encoder,
    take_words,
    write_tokenizer,
)

WORDS = vocabulary()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> CLIPTokenizer:
    return write_tokenizer(WORDS, folder)


def test_each_word_is_one_token_of_its_own(tokenizer: CLIPTokenizer) -> None:
    ids = [tokenizer(word, add_special_tokens=False).input_ids for word in WORDS]
    assert [word for word, found in zip(WORDS, ids, strict=True) if len(found) != 1] == []
    assert len({found[0] for found in ids}) == len(WORDS)


def test_a_prompt_is_its_words_between_the_marks_and_padding(tokenizer: CLIPTokenizer) -> None:
    encoded = tokenizer("A red CUBE, side view", padding="max_length", max_length=MAX_TOKENS)
    tokens = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    words = ["a</w>", "red</w>", "cube</w>", ",</w>", "side</w>", "view</w>"]
    assert tokens == [BOS, *words, *[EOS] * (MAX_TOKENS - 7)]


def test_the_longest_captions_fit(tokenizer: CLIPTokenizer) -> None:
    longest = "an orange teddy bear with white stripes on top of an orange traffic cone with white dots"
    assert len(tokenizer(f"{longest}, right side view").input_ids) == 23 < MAX_TOKENS


def test_unknown_words_fall_into_letters_and_none_into_the_end_mark(tokenizer: CLIPTokenizer) -> None:
    # An unknown token would be EOS, where the pooled embedding is read: the rest of the prompt would be lost.
    for word in ("zyx", "unicorn", "qwjk", "b2-z?"):
        ids = tokenizer(word, add_special_tokens=False).input_ids
        tokens = tokenizer.convert_ids_to_tokens(ids)
        assert len(ids) > 1 and tokenizer.eos_token_id not in ids, word
        assert "".join(tokens).replace("</w>", "") == word


def test_a_reloaded_tokenizer_is_the_same(tokenizer: CLIPTokenizer, folder: Path) -> None:
    again = CLIPTokenizer.from_pretrained(folder)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert (again.model_max_length, again.pad_token, again.eos_token) == (MAX_TOKENS, EOS, EOS)
    for text in ("a red cube on top of a dotted blue donut, back view", "unicorn, flying", "", "red " * 30):
        options = {"padding": "max_length", "max_length": MAX_TOKENS, "truncation": True}
        assert again(text, **options).input_ids == tokenizer(text, **options).input_ids


def test_encode_text_is_what_the_pipeline_gives_the_transformer(tokenizer: CLIPTokenizer) -> None:
    from diffusers import StableDiffusion3Pipeline

    from training.prior import new_transformer

    torch.manual_seed(0)
    encoders = [new_text_encoder(tokenizer).eval() for _ in range(2)]
    pipeline = StableDiffusion3Pipeline(
        transformer=new_transformer(),
        scheduler=None,
        vae=None,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        text_encoder_3=None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=None,
    )
    prompts = ["a red cube on a blue cone, front view", ""]
    ids = torch.tensor(tokenizer(prompts, padding="max_length", max_length=MAX_TOKENS).input_ids)
    with torch.no_grad():
        tokens, pooled = encode_text(encoders, ids)
        theirs, _, their_pooled, _ = pipeline.encode_prompt(
            prompts, prompts, prompts, do_classifier_free_guidance=False
        )
    assert tokens.shape == (2, MAX_TOKENS, 2 * TEXT_WIDTH) and pooled.shape == (2, 2 * TEXT_WIDTH)
    torch.testing.assert_close(tokens, theirs[:, :MAX_TOKENS])
    assert not theirs[:, MAX_TOKENS:].any()  # T5's place.
    torch.testing.assert_close(pooled, their_pooled)


def test_the_pooled_embedding_reads_the_first_end_mark_so_padding_does_not_matter(
    tokenizer: CLIPTokenizer,
) -> None:
    torch.manual_seed(0)
    encoders = [new_text_encoder(tokenizer).eval() for _ in range(2)]
    ids = torch.tensor([tokenizer("a red cube", padding="max_length", max_length=MAX_TOKENS).input_ids])
    with torch.no_grad():
        long, short = (encode_text(encoders, part)[1] for part in (ids, ids[:, :6]))
        other = encode_text(encoders, ids.roll(1, dims=0)[:, [0, 1, 3, 2, 4, 5]])[1]
    torch.testing.assert_close(long, short)
    assert (long - other).abs().max() > 1e-3


def saved(tokenizer: CLIPTokenizer, folder: Path, part: str) -> None:
    """An untrained text encoder, as `text_encoder` and `tokenizer` of a model in `folder`."""
    new_text_encoder(tokenizer).save_pretrained(folder / f"text_encoder{part}")
    tokenizer.save_pretrained(folder / f"tokenizer{part}")


@pytest.mark.parametrize("part", ["", "_2"])
def test_a_word_keeps_its_embedding_under_another_tokenizer_and_a_new_one_what_it_has(
    part: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    old = write_tokenizer(["a", "red", "cube", "mug", "on"], tmp_path / "old")
    new = write_tokenizer(["a", "aeroplane", "blue", "cube", "mug", "on", "red", "zebra"], tmp_path / "new")
    saved(old, tmp_path / "model", part)
    encoder = new_text_encoder(new).eval()
    before = encoder.get_input_embeddings().weight.detach().clone()
    take_words(encoder, new, tmp_path / "model", part)
    after = encoder.get_input_embeddings().weight
    theirs = type(encoder).from_pretrained(tmp_path / "model" / f"text_encoder{part}").eval()
    known, numbers = old.get_vocab(), new.get_vocab()
    assert any(known[word] != numbers[word] for word in known)  # Else there is nothing to be seen.
    for word, index in numbers.items():
        row = theirs.get_input_embeddings().weight[known[word]] if word in known else before[index]
        assert torch.equal(after[index], row), word
    assert {"aeroplane</w>", "blue</w>", "zebra</w>"} <= set(numbers) - set(known)
    # So a prompt of words that both know means the same.
    prompt = "a red mug on a cube, zzz"
    ids = [
        torch.tensor(t(prompt, padding="max_length", max_length=MAX_TOKENS).input_ids)[None]
        for t in (old, new)
    ]
    with torch.no_grad():
        for one, other in zip(encode_text([theirs], ids[0]), encode_text([encoder], ids[1]), strict=True):
            torch.testing.assert_close(one, other)
