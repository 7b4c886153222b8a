"""Latents of the training pictures, in any colors and over any grey, and exact targets: what the tiny priors are trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from rfgs.tinyworld.pictures import PATCH
from rfgs.tinyworld.posterior import posterior_mean
from training import data as data_module
from training.data import Shard, composite, load_labels, open_shard, open_shards, scene_of
from training.draws import Draw, Draws
from training.vae import fit_encoder

_CHECK = 1024  # Samples at the start of the data that are kept for measuring.
PARTS = 14
"""Of a picture's latents, which are linear in the colors (the encoder is linear): what red, green and blue of each of the
four colors add, then all fixed colors with the encoder's bias, then what is behind."""


@dataclass
class Batch:
    """B training samples."""

    x: Tensor
    """Latents [B, 16, 16, 16]: `objects`, and `backdrops` times a grey."""
    objects: Tensor
    backdrops: Tensor


@dataclass
class Latents:
    """Training data: latents of N pictures in parts, and what the pictures show."""

    parts: Tensor
    """[N, PARTS, 16, 16, 16], half precision, where training computes."""
    draws: Draws

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def device(self) -> torch.device:
        """Where training computes."""
        return self.parts.device

    def batch(self, drawn: Draw) -> Batch:
        """The samples of a draw."""
        objects, backdrops = self.shown(drawn.pick, drawn.colors)
        grey = drawn.grey.to(self.device)[:, None, None, None]
        return Batch(objects + grey * backdrops, objects, backdrops)

    def shown(self, pick: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, 16, 16, 16] of the pictures `pick` [B] in `colors` [B, 4, 3] over black, and what white behind adds."""
        stored = self.parts.view(len(self) * PARTS, -1)
        weights = F.pad(colors.flatten(1), (0, 1), value=1.0)
        # Most pictures have one plain thing, so that most of their parts are 0 and need not be read.
        rows, part = self.draws.seen[pick].nonzero().unbind(1)
        place, share = (pick[rows] * PARTS + part).to(self.device), weights[rows, part, None].to(self.device)
        added = stored.index_select(0, place).float() * share
        objects = torch.zeros(len(pick), stored.shape[1], device=self.device)
        objects.index_add_(0, rows.to(self.device), added)
        backdrops = stored.index_select(0, (pick * PARTS + PARTS - 1).to(self.device)).float()
        shape = (len(pick), *self.parts.shape[2:])
        return objects.view(shape), backdrops.view(shape)

    def exact_x0(self, drawn: Draw, batch: Batch, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t] over pictures of the same shapes, sizes and side in the same colors, for `drawn.rows` of a batch.

        The pictures asked are the sample's own and `drawn.others` (Xu et al. 2023, "Stable Target Field", which has the
        argument why the expected gradient stays).

        Args:
            x_t, t: of these rows, [R, 16, 16, 16] and [R].
        """
        rows = drawn.rows.to(self.device)
        objects = torch.zeros(len(rows), 1 + drawn.others.shape[1], *x_t.shape[1:], device=self.device)
        backdrops = torch.zeros_like(objects)
        objects[:, 0], backdrops[:, 0] = batch.objects[rows], batch.backdrops[rows]
        row, place = (drawn.others >= 0).nonzero().unbind(1)
        others = self.shown(drawn.others[row, place], drawn.colors[drawn.rows[row]])
        there = F.pad(drawn.others >= 0, (1, 0), value=True).to(self.device)
        row, place = row.to(self.device), place.to(self.device)
        objects[row, 1 + place], backdrops[row, 1 + place] = others
        mean = posterior_mean(x_t.flatten(1), t, objects.flatten(2), backdrops.flatten(2), there)
        return mean.reshape(x_t.shape)

    def to(self, device: torch.device) -> Latents:
        """The same, where training computes."""
        return Latents(self.parts.to(device), self.draws)


def encode_dataset(work: Path, seed: int, encoder: tuple[Tensor, Tensor] | None = None) -> None:
    """Encode all pictures: writes `latents.pt` with `kernel`, `bias` and `parts`.

    Args:
        encoder: kernel [16, 3, 8, 8] and bias [16] of a linear encoder; None fits one to the pictures.
    """
    shards = open_shards(work / "data")
    if encoder is None:
        rng = np.random.default_rng(seed)
        sample = np.concatenate([shard[:: max(1, len(shards) // 8)] for shard in shards])[:8000]
        encoder = fit_encoder(torch.from_numpy(composite(sample, rng)))
    kernel, bias = encoder
    parts = torch.cat([encode_shard(shard, kernel, bias) for shard in shards])
    torch.save({"kernel": kernel, "bias": bias, "parts": parts}, work / "latents.pt")


def encode_shard(shard: Shard, kernel: Tensor, bias: Tensor) -> Tensor:
    """PARTS of the latents of all pictures of a shard, half precision [SHARD, PARTS, 16, H/8, W/8]."""
    layers = (torch.tensor(shard.layers[i : i + 100]).float() / 255 for i in range(0, len(shard), 100))
    return torch.cat([encode_layers(part, kernel, bias).half() for part in layers])


def encode_layers(layers: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """PARTS of the latents of pictures in layers [B, H, W, 8]: [B, PARTS, 16, H/8, W/8]."""
    layers = layers.permute(0, 3, 1, 2)
    single = [
        F.conv2d(layers[:, i : i + 1], kernel[:, c : c + 1], stride=PATCH) for i in range(4) for c in range(3)
    ]
    fixed = F.conv2d(layers[:, 4:7], kernel, bias, stride=PATCH)
    behind = F.conv2d((1 - layers[:, 7:]).expand(-1, 3, -1, -1), kernel, stride=PATCH)
    return torch.stack([*single, fixed, behind], dim=1)


def load_latents(work: Path, tokenizer: CLIPTokenizer) -> Latents:
    """The training data of the prior."""
    parts = torch.load(work / "latents.pt", weights_only=True, mmap=True)["parts"]
    labels = load_labels(work / "data")[: len(parts)]
    draws = Draws([scene_of(label) for label in labels], [label["view"] for label in labels], tokenizer)
    return Latents(parts, draws)


def split(data: Latents) -> tuple[Latents, Latents]:
    """What to train on, and the first samples, which are only measured."""

    def part(rows: slice) -> Latents:
        draws = Draws(data.draws.scenes[rows], data.draws.views[rows], data.draws.tokenizer)
        return Latents(data.parts[rows], draws)

    return part(slice(_CHECK, None)), part(slice(0, _CHECK))


def take_new_pictures(data: Latents, work: Path) -> bool:
    """Add the shards that were rendered since to the training data, those without a gap; whether there were any."""
    stored = torch.load(work / "latents.pt", weights_only=True, mmap=True)
    new = []
    for index in count((len(data) + _CHECK) // data_module.SHARD):
        labels_file = work / "data" / f"labels-{index:04d}.json"
        if not labels_file.exists():
            break
        labels = json.loads(labels_file.read_text())
        data.draws.add([scene_of(label) for label in labels], [label["view"] for label in labels])
        new.append(encode_shard(open_shard(work / "data", index), stored["kernel"], stored["bias"]))
    if new:
        data.parts = torch.cat([data.parts, *(part.to(data.device) for part in new)])
    return bool(new)
