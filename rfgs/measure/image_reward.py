"""ImageReward (Xu et al. 2023, arXiv 2304.05977), built anew of transformers' parts: how well a picture fits a prompt.

Its own package wants libraries of 2022 and does not import beside today's. The model is BLIP's large vision transformer, a BERT
that looks at the picture from every layer, and on the BERT's first token five linear maps in a row; the reward is brought to mean
0 and variance 1 by two constants of its authors. The weights are those that they publish, ImageReward.pt (Apache 2.0), in float32
everywhere: in bfloat16 random weights gave rewards that are 0.05 off, which is a point of T3Bench's quality.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rfgs.errors import UserError

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the rewards of the authors' validation set, which they take off."""
COLOR_MEAN, COLOR_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LONGEST = 35
"""Tokens of a prompt, its first and last ones included; the rest of a longer one is not read."""
WEIGHTS, VOCABULARY = "ImageReward.pt", "vocab.txt"
HUB = {WEIGHTS: "zai-org/ImageReward", VOCABULARY: "google-bert/bert-base-uncased"}
"""Where the two files are published."""
HEAD = 64
"""Width of an attention's head, in both transformers."""
_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "blocks": "encoder.layers",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "norm": "post_layernorm",
}
"""What BLIP's authors call a weight of the vision transformer, and what transformers does."""


class ImageReward:
    """Rewards of pictures under a prompt: a scorer for `rfgs.measure.t3bench`.

    Args:
        weights: the published state, by the authors' names. Sizes are read from it.
        vocabulary: BERT's file of word pieces.
        batch: pictures that go through the network together.
        again: gives the weights anew. What lies in a file is then let go by each half once it is through, so that of the
            two only one is in memory; the system still has it to give it back.

    Raises:
        UserError: the weights are another model's.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        vocabulary: Path,
        *,
        device: str = "cpu",
        batch: int = 8,
        again: Callable[[], dict[str, Tensor]] | None = None,
    ) -> None:
        from transformers import BertTokenizer

        self._device, self._batch, self._again = device, batch, again
        self._tokenizer = BertTokenizer(vocab=str(vocabulary), do_lower_case=True)
        try:
            self._vision, self._text = _vision(weights), _text(weights)
            self._head = _head(weights)
        except (KeyError, RuntimeError, IndexError) as error:
            raise UserError(
                f"{WEIGHTS}: holds another model's weights ({str(error).splitlines()[0]}); take the one of {HUB[WEIGHTS]}"
            ) from error
        for part in (self._vision, self._text):
            part.eval().requires_grad_(False).to(device)
        self._head = [(weight.to(device), bias.to(device)) for weight, bias in self._head]
        self.size = int((weights["blip.visual_encoder.pos_embed"].shape[1] - 1) ** 0.5) * _patch(weights)
        """Width and height of the pictures that the network sees, pixels."""

    @torch.no_grad()
    def __call__(self, pictures: Tensor, prompt: str) -> Tensor:
        """Rewards [B], about normal, of pictures [B, 3, H, W] in [0, 1], which are taken in steps of 1/255."""
        tokens = self._tokenizer(prompt, truncation=True, max_length=LONGEST, return_tensors="pt")
        # Without the padding that the authors mask.
        ids = tokens.input_ids.to(self._device)
        return torch.cat([self._rewards(part, ids) for part in pictures.split(self._batch)])

    def _rewards(self, pictures: Tensor, ids: Tensor) -> Tensor:
        seen = torch.stack([resized(picture, self.size) for picture in pictures])
        seen = self._vision(seen.to(self._device)).last_hidden_state
        self._let_go()
        read = self._text(ids.expand(len(seen), -1), encoder_hidden_states=seen).last_hidden_state[:, 0]
        value = read
        for weight, bias in self._head:
            value = nn.functional.linear(value, weight, bias)
        self._let_go()
        return ((value[:, 0] - MEAN) / STD).cpu()

    def _let_go(self) -> None:
        """Takes the weights anew, of which nothing has been read from the file yet; the file's last user closes it."""
        if self._again is not None:
            weights = self._again()
            self._vision.load_state_dict(_vision_weights(weights), assign=True)
            self._text.load_state_dict(_text_weights(weights), assign=True)
            self._head = _head(weights)


def resized(picture: Tensor, size: int) -> Tensor:
    """A picture [3, H, W] in [0, 1] as the network wants it, [3, size, size]: its shorter side `size` long, and the middle of it.

    By Pillow's bicubic filter in steps of 1/255, as the authors do it, so that rewards are the same.
    """
    from PIL import Image

    image = Image.fromarray((picture * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
    share = size / min(image.size)
    image = image.resize((int(image.width * share), int(image.height * share)), Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in image.size)
    image = image.crop((left, top, left + size, top + size))
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (values - torch.tensor(COLOR_MEAN)[:, None, None]) / torch.tensor(COLOR_STD)[:, None, None]


def load_image_reward(folder: Path | None, *, device: str = "cpu") -> tuple[ImageReward, str]:
    """ImageReward, and what tells its weights from others: the first digits of their SHA-256.

    Args:
        folder: has ImageReward.pt and BERT's vocab.txt; None takes both from the model hub, or from its cache.

    Raises:
        UserError: a file is missing, damaged or cannot be downloaded.
    """
    paths = {name: _fetched(name) if folder is None else folder / name for name in HUB}
    for name, path in paths.items():
        if not path.is_file():
            raise UserError(
                f"--scorer {folder}: has no {name}; it is at https://huggingface.co/{HUB[name]}, or leave out --scorer "
                "to have it downloaded"
            )

    def read() -> dict[str, Tensor]:
        # Only tensors are read, and from the file itself when they are needed.
        return torch.load(paths[WEIGHTS], map_location="cpu", weights_only=True, mmap=True)

    try:
        weights = read()
    except Exception as error:  # Damaged bytes raise whatever they like.
        raise UserError(f"{paths[WEIGHTS]}: cannot be read; download it again") from error
    digest = hashlib.sha256()
    with paths[WEIGHTS].open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    again = read if device == "cpu" else None
    return ImageReward(
        weights, paths[VOCABULARY], device=device, again=again
    ), f"ImageReward {digest.hexdigest()[:12]}"


def _fetched(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    from rfgs.models.hub import explained

    try:
        return Path(hf_hub_download(HUB[name], name))
    except Exception as error:
        said = explained(HUB[name], error)
        if said is None:
            raise
        line = str(said).replace("--model FOLDER", f"--scorer FOLDER (with {' and '.join(HUB)})")
        raise UserError(line) from error


def _patch(weights: dict[str, Tensor]) -> int:
    return weights["blip.visual_encoder.patch_embed.proj.weight"].shape[-1]


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _layers(names: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(name.split(".")[prefix.count(".")]) for name in names if name.startswith(prefix))


def _vision(weights: dict[str, Tensor]) -> Any:
    """The vision transformer."""
    from transformers import BlipVisionConfig, BlipVisionModel

    theirs = _below(weights, "blip.visual_encoder.")
    width = theirs["cls_token"].shape[-1]
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(theirs["blocks.0.mlp.fc1.bias"]),
        num_hidden_layers=_layers(theirs, "blocks."),
        num_attention_heads=width // HEAD,
        image_size=int((theirs["pos_embed"].shape[1] - 1) ** 0.5) * _patch(weights),
        patch_size=_patch(weights),
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        attn_implementation="eager",
    )
    return _filled(BlipVisionModel, config, _vision_weights(weights))


def _vision_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the vision transformer, by transformers' names."""
    ours = {}
    for name, value in _below(weights, "blip.visual_encoder.").items():
        for old, new in _VISION.items():
            name = new + name[len(old) :] if name.startswith(old) else name.replace(f".{old}.", f".{new}.")
        ours[name] = value
    return ours


def _text_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the BERT."""
    theirs = _below(weights, "blip.text_encoder.")
    theirs.pop("embeddings.position_ids", None)
    return theirs


def _head(weights: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The linear maps at the end."""
    return [
        (weights[f"mlp.layers.{number}.weight"], weights[f"mlp.layers.{number}.bias"])
        for number in (0, 2, 4, 6, 7)
    ]


def _text(weights: dict[str, Tensor]) -> Any:
    """The BERT with a cross-attention to the picture in each layer."""
    from transformers.models.blip.configuration_blip import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    theirs = _text_weights(weights)
    words, width = theirs["embeddings.word_embeddings.weight"].shape
    config = BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=theirs["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=len(theirs["encoder.layer.0.intermediate.dense.bias"]),
        num_hidden_layers=_layers(theirs, "encoder.layer."),
        num_attention_heads=width // HEAD,
        max_position_embeddings=len(theirs["embeddings.position_embeddings.weight"]),
        attn_implementation="eager",
    )
    return _filled(BlipTextModel, config, theirs, add_pooling_layer=False)


def _filled(kind: Any, config: Any, weights: dict[str, Tensor], **options: Any) -> Any:
    """A model with these weights themselves, and not copies: they may lie in a file."""
    with torch.device("meta"):
        model = kind(config, **options)
    # What is no weight, such as the numbers of positions, is made anew; the rest has to be there, all of it.
    for module in model.modules():
        for name, value in module.named_buffers(recurse=False):
            setattr(module, name, torch.arange(value.shape[-1])[None])
    model.load_state_dict(weights, assign=True)
    return model
