"""Qwen3 as a text encoder: prompts put as a user's turn of a chat, and what the model's layers make of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rfgs.models.about import about
from rfgs.priors.adapter import LARGEST, FlowAdapter, load_scheduler
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.parts import Setup, load_network, whole_model
from rfgs.priors.text import TextPart, load_text

TOKENS = 512
"""Of a prompt, the chat's own included; longer ones are cut, shorter ones padded."""


class QwenAdapter(FlowAdapter):
    """A flow whose prompts Qwen3 reads, as a `Prior`; made by `load`. The two families below add their network."""

    key: ClassVar[str]
    """What embeddings on the disk are kept under."""
    title: ClassVar[str]
    """What messages call the family."""
    network_class: ClassVar[str]
    """Module and class in diffusers."""

    def __init__(
        self, name: str, source: str, setup: Setup, network: Any, autoencoder: Autoencoder, scheduler: Any
    ) -> None:
        super().__init__(name, source, setup, network, autoencoder, scheduler)
        said = about(source)
        self.image_size = said.image_size or LARGEST
        self._tokens = said.max_sequence_length or TOKENS
        self.text = self._text_side(self.key, str(self._tokens))

    @classmethod
    def load(cls, source: str, *, name: str, setup: Setup) -> Any:
        """From the folder `source`; the text encoder follows when a prompt needs it."""
        with whole_model(name, cls.title):
            scheduler = load_scheduler(source)
            autoencoder = Autoencoder.load(source, device=setup.home, grain=cls.grain)
            network = load_network(cls.network_class, source, "transformer", setup)
        return cls(name, source, setup, network, autoencoder, scheduler)

    def _load_text(self) -> TextPart:
        with whole_model(self.name, self.title):
            return load_qwen(self.source, self.setup)


def load_qwen(source: str, setup: Setup) -> TextPart:
    """The encoder in text_encoder/ and its tokenizer, without the head that predicts words."""
    from transformers import Qwen2TokenizerFast, Qwen3Model

    return load_text(Qwen3Model, Qwen2TokenizerFast, source, "", setup)


def read(
    part: TextPart, prompts: Sequence[str], *, layers: Sequence[int], thinking: bool, tokens: int = TOKENS
) -> tuple[Tensor, Tensor]:
    """What the layers make of B prompts, and which tokens are no padding.

    Args:
        layers: numbers of the layers, 0 for what goes into the first; negative ones count from the end.
        thinking: whether the answer, of which nothing is read, could begin with a thought.
        tokens: L, of each prompt.

    Returns:
        The layers' outputs side by side [B, L, layers * D], and the mask [B, L], True for tokens of the prompt.
    """
    chats = [
        part.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        for prompt in prompts
    ]
    given = part.tokenizer(
        chats, padding="max_length", max_length=tokens, truncation=True, return_tensors="pt"
    )
    ids, mask = given.input_ids.to(part.device), given.attention_mask.to(part.device)
    states = part.encoder(
        input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
    ).hidden_states
    return torch.cat([states[layer] for layer in layers], dim=-1), mask.bool()
