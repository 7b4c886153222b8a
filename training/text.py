"""The tiny text side in the formats SD3 uses: a CLIP tokenizer of the world's own words and two small CLIP text encoders."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 24
TEXT_WIDTH = 96  # Channels of each text encoder; SD3 concatenates the two.


def write_tokenizer(words: list[str], folder: Path) -> CLIPTokenizer:
    """Write and load a CLIP byte-pair tokenizer in which each of `words` is one token; other words fall into letters.

    Token ids differ from call to call (the trainer breaks ties at random): a model needs the folder it was trained with.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=EOS, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.;:!?'\"()-/&"
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=[BOS, EOS],
        end_of_word_suffix="</w>",
        initial_alphabet=list(letters),
        show_progress=False,
    )
    # The letters come as words too, so that each exists as the last letter of a word.
    tokenizer.train_from_iterator([" ".join(sorted(words)), " ".join(letters)], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    merges = folder / "merges.txt"
    if not merges.read_text().startswith("#version"):
        merges.write_text("#version: 0.2\n" + merges.read_text())
    clip = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(merges),
        unk_token=EOS,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=MAX_TOKENS,
    )
    clip.save_pretrained(folder)
    return clip


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """An untrained CLIP text encoder: ids [B, MAX_TOKENS] -> hidden states [B, MAX_TOKENS, 96] and text_embeds [B, 96]."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def take_words(
    encoder: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer, folder: Path, part: str
) -> None:
    """Give `encoder` the weights of the text encoder in `folder`, each word those of the same word.

    `tokenizer` may know other words than that model's own, or number them otherwise; words that are new keep their weights.

    Args:
        part: the suffix of the subfolders, "" or "_2".
    """
    other = CLIPTextModelWithProjection.from_pretrained(folder, subfolder=f"text_encoder{part}")
    state, own = other.state_dict(), encoder.state_dict()
    key = next(name for name in own if name.endswith("token_embedding.weight"))
    words = same_words(own[key], tokenizer, state[key], folder / f"tokenizer{part}")
    encoder.load_state_dict({**state, key: words})


def same_words(own: Tensor, tokenizer: CLIPTokenizer, theirs: Tensor, folder: Path) -> Tensor:
    """Rows `own` [V, C] of the words of `tokenizer`, each that the tokenizer in `folder` has too with its row of `theirs`."""
    numbers = CLIPTokenizer.from_pretrained(folder).get_vocab()
    rows = own.clone()
    for word, index in tokenizer.get_vocab().items():
        if word in numbers:
            rows[index] = theirs[numbers[word]]
    return rows


def encode_text(
    encoders: list[CLIPTextModelWithProjection], ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """SD3's text condition without T5: ids [B, L] -> tokens [B, L, 192] (penultimate layers), pooled [B, 192]."""
    outputs = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return tokens, torch.cat([output.text_embeds for output in outputs], dim=-1)
