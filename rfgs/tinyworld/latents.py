"""Latents of the training pictures, and their captions: what the tiny priors are trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from rfgs.tinyworld.data import composite, load_labels, open_images
from rfgs.tinyworld.text import MAX_TOKENS
from rfgs.tinyworld.vae import PATCH, fit_encoder

_CHECK = 1024  # Samples at the end of the data that are kept for measuring.


@dataclass
class Latents:
    """Training data, already shifted and scaled: latents of a picture over grey g are objects + g backdrops (the encoder
    is linear), both [N, 16, 16, 16]; ids [N, 24] with and without view words."""

    objects: Tensor
    backdrops: Tensor
    ids: Tensor
    ids_without_view: Tensor
    empty: Tensor  # [24], the ids of the empty prompt

    def __len__(self) -> int:
        return len(self.objects)

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random latents [size, 16, 16, 16] over any grey and ids [size, 24]; 10 % lose their caption, 10 % the view words."""
        pick = torch.randint(len(self), (size,), generator=generator)
        chance = torch.rand(size, generator=generator)
        ids = torch.where((chance < 0.2)[:, None], self.ids_without_view[pick], self.ids[pick])
        ids = torch.where((chance < 0.1)[:, None], self.empty, ids)
        return self.over_grey(pick, torch.rand(size, generator=generator)), ids

    def over_grey(self, pick: Tensor, grey: Tensor) -> Tensor:
        """Latents [B, 16, 16, 16] of the pictures `pick` [B] over backgrounds `grey` [B] in [0, 1]."""
        return self.objects[pick].float() + grey[:, None, None, None] * self.backdrops[pick].float()


def encode_dataset(work: Path, seed: int, encoder: tuple[Tensor, Tensor] | None = None) -> None:
    """Encode all pictures: writes `latents.pt` with `kernel`, `bias`, `objects` and `backdrops`.

    Args:
        encoder: kernel [16, 3, 8, 8] and bias [16] of a linear encoder; None fits one to the pictures.
    """
    shards = open_images(work / "data")
    if encoder is None:
        rng = np.random.default_rng(seed)
        sample = np.concatenate([shard[:: max(1, len(shards) // 8)] for shard in shards])[:8000]
        encoder = fit_encoder(torch.from_numpy(composite(sample, rng)))
    kernel, bias = encoder
    objects, backdrops = [], []
    for shard in shards:
        rgba = torch.from_numpy(np.array(shard)).permute(0, 3, 1, 2).float() / 255
        behind = (1 - rgba[:, 3:]).expand(-1, 3, -1, -1)
        objects.append(F.conv2d(rgba[:, :3], kernel, bias, stride=PATCH).half())
        backdrops.append(F.conv2d(behind, kernel, stride=PATCH).half())
    stored = {"objects": torch.cat(objects), "backdrops": torch.cat(backdrops)}
    torch.save({"kernel": kernel, "bias": bias, **stored}, work / "latents.pt")


def load_latents(work: Path, tokenizer: CLIPTokenizer) -> Latents:
    """The training data of the prior."""
    labels = load_labels(work / "data")

    def ids(texts: list[str]) -> torch.Tensor:
        encoded = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True)
        return torch.tensor(encoded.input_ids)

    stored = torch.load(work / "latents.pt", weights_only=True, mmap=True)
    labels = labels[: len(stored["objects"])]
    return Latents(
        stored["objects"],
        stored["backdrops"],
        ids([f"{label['caption']}, {label['view']}" for label in labels]),
        ids([label["caption"] for label in labels]),
        ids([""])[0],
    )


def split(data: Latents) -> tuple[Latents, Latents]:
    """What to train on, and the last samples, which are only measured."""

    def part(rows: slice) -> Latents:
        return Latents(
            data.objects[rows], data.backdrops[rows], data.ids[rows], data.ids_without_view[rows], data.empty
        )

    return part(slice(0, -_CHECK)), part(slice(-_CHECK, None))
