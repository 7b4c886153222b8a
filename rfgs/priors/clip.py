"""CLIP's text encoder and tokenizer as the small models have them, without transformers, whose import takes longer than they do.

The operations are those of transformers in their order, so that embeddings are the same to the last bit (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.priors.parts import read_json

TOKENS, WEIGHTS = "tokenizer.json", "model.safetensors"


class Encoded(NamedTuple):
    """What an encoder makes of token ids [B, L]."""

    last_hidden_state: Tensor
    """[B, L, D], normalized."""
    hidden_states: list[Tensor]
    """Before the first layer and after each, [B, L, D]."""
    text_embeds: Tensor | None
    """[B, P], of an encoder that has a projection."""


@dataclass(frozen=True, eq=False)
class ClipText:
    """The encoder: ids [B, L] to `Encoded`."""

    config: SimpleNamespace
    weights: dict[str, Tensor]

    @torch.no_grad()
    def __call__(self, ids: Tensor, output_hidden_states: bool = True) -> Encoded:
        x = F.embedding(ids, self.weights["embeddings.token_embedding.weight"])
        x = x + self.weights["embeddings.position_embedding.weight"][: ids.shape[1]]
        states = [x]
        for number in range(self.config.num_hidden_layers):
            at = f"encoder.layers.{number}"
            x = x + self._attended(f"{at}.self_attn", self._normalized(f"{at}.layer_norm1", x))
            y = self._linear(f"{at}.mlp.fc1", self._normalized(f"{at}.layer_norm2", x))
            x = x + self._linear(f"{at}.mlp.fc2", F.gelu(y))
            states.append(x)
        x = self._normalized("final_layer_norm", x)
        projection = self.weights.get("text_projection.weight")
        if projection is None:
            return Encoded(x, states, None)
        ends = (ids == self.config.eos_token_id).int().argmax(dim=-1)
        return Encoded(x, states, F.linear(x[torch.arange(len(x), device=x.device), ends], projection))

    def _attended(self, at: str, x: Tensor) -> Tensor:
        heads = self.config.num_attention_heads
        query, key, value = (
            self._linear(f"{at}.{name}_proj", x).unflatten(-1, (heads, -1)).transpose(1, 2) for name in "qkv"
        )
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=query.shape[-1] ** -0.5)
        return self._linear(f"{at}.out_proj", out.transpose(1, 2).flatten(-2))

    def _linear(self, at: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{at}.weight"], self.weights[f"{at}.bias"])

    def _normalized(self, at: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{at}.weight"], self.weights[f"{at}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self.config.layer_norm_eps)


class ClipWords:
    """The tokenizer, with what `rfgs.priors.text` asks of one of transformers."""

    def __init__(self, file: Path, config: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._words = Tokenizer.from_file(str(file))
        self.model_max_length: int = config["model_max_length"]
        self._pad: str = config["pad_token"]
        self.all_special_tokens = [config[name] for name in ("bos_token", "eos_token", "pad_token")]

    def get_vocab(self) -> dict[str, int]:
        """Ids of all words."""
        return dict(self._words.get_vocab())

    def __call__(self, prompts: Sequence[str], *, max_length: int, **_: Any) -> SimpleNamespace:
        """Token ids, padded and cut to `max_length`."""
        self._words.enable_truncation(max_length)
        self._words.enable_padding(
            length=max_length, pad_id=self._words.token_to_id(self._pad), pad_token=self._pad
        )
        return SimpleNamespace(input_ids=[found.ids for found in self._words.encode_batch(list(prompts))])


def is_plain(source: str, suffix: str) -> bool:
    """Whether the text side in subfolders "tokenizer" and "text_encoder" + suffix is of the kind that is read here."""
    place = Path(source)
    files = (place / f"tokenizer{suffix}" / TOKENS, place / f"text_encoder{suffix}" / WEIGHTS)
    if not all(file.is_file() for file in files):
        return False
    config = read_json(source, f"text_encoder{suffix}/config.json")
    return config.get("model_type") == "clip_text_model" and config.get("hidden_act") == "gelu"


def load_words(source: str, suffix: str) -> ClipWords:
    """The tokenizer; see `is_plain`."""
    config = read_json(source, f"tokenizer{suffix}/tokenizer_config.json")
    return ClipWords(Path(source) / f"tokenizer{suffix}" / TOKENS, config)


def load_encoder(source: str, suffix: str, *, device: torch.device, dtype: torch.dtype) -> ClipText:
    """The encoder on `device` and in `dtype`; see `is_plain`."""
    from safetensors.torch import load_file

    place = f"text_encoder{suffix}"
    found = load_file(Path(source) / place / WEIGHTS)
    weights = {name.removeprefix("text_model."): value.to(device, dtype) for name, value in found.items()}
    encoder = ClipText(SimpleNamespace(**read_json(source, f"{place}/config.json")), weights)
    try:
        encoder(torch.zeros(1, 1, dtype=torch.long, device=device))
    except KeyError as error:
        raise OSError(f"{place}/ lacks the weights of {error.args[0]}") from error
    return encoder
