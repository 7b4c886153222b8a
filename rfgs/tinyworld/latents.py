"""Latents of the training pictures, in any colours, with captions and exact targets: what the tiny priors are trained on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from rfgs.tinyworld.data import composite, load_labels, open_shards, scene_of, thing_colors
from rfgs.tinyworld.language import caption
from rfgs.tinyworld.posterior import posterior_mean
from rfgs.tinyworld.scenes import COLORS, Scene, Thing, expected_looks
from rfgs.tinyworld.text import MAX_TOKENS
from rfgs.tinyworld.vae import PATCH, fit_encoder

_CHECK = 1024  # Samples at the end of the data that are kept for measuring.
PARTS = 14
"""Of a picture's latents, which are linear in the colours (the encoder is linear): what red, green and blue of each of the
four colours add, then all fixed colours with the encoder's bias, then what is behind."""


@dataclass
class Batch:
    """B training samples."""

    x: Tensor
    """Latents [B, 16, 16, 16]: `objects`, and `backdrops` times a grey."""
    ids: Tensor
    """Token ids [B, 24]; a tenth of the captions are empty, and another tenth say no view."""
    pick: Tensor
    """Which pictures [B]."""
    colors: Tensor
    """Their colours, [B, 4, 3]."""
    objects: Tensor
    backdrops: Tensor


@dataclass
class Latents:
    """Training data: latents of N pictures in parts, and what the pictures show."""

    parts: Tensor
    """[N, PARTS, 16, 16, 16], half precision."""
    scenes: list[Scene]
    views: list[str]
    tokenizer: CLIPTokenizer

    def __post_init__(self) -> None:
        alike: dict[tuple, list[int]] = defaultdict(list)
        keys = [(_shape(scene), view) for scene, view in zip(self.scenes, self.views, strict=True)]
        for i, key in enumerate(keys):
            alike[key].append(i)
        groups = {key: torch.tensor(members) for key, members in alike.items()}
        self._alike = [groups[key] for key in keys]
        self._others = torch.tensor([len(members) > 1 for members in self._alike], dtype=torch.bool)
        self._seen = torch.tensor([_seen_parts(scene) for scene in self.scenes], dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.parts)

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """Random pictures in random colours over any grey, with captions whose wording varies."""
        pick = torch.randint(len(self), (size,), generator=generator)
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        grey = torch.rand(size, generator=generator)
        shown = [recolor(self.scenes[i], rng) for i in pick.tolist()]
        texts = []
        for i, scene in zip(pick.tolist(), shown, strict=True):
            says = rng.random()
            text = "" if says < 0.1 else caption(scene, rng)
            texts.append(text if says < 0.2 else f"{text}, {self.views[i]}")
        colors = torch.from_numpy(np.stack([thing_colors(scene) for scene in shown]))
        objects, backdrops = self.shown(pick, colors)
        x = objects + grey[:, None, None, None] * backdrops
        return Batch(x, self.ids(texts), pick, colors, objects, backdrops)

    def shown(self, pick: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, 16, 16, 16] of pictures `pick` [B] in `colors` [B, 4, 3] over black, and what a background of 1 adds."""
        stored = self.parts.view(len(self) * PARTS, -1)
        weights = F.pad(colors.flatten(1), (0, 1), value=1.0)
        # Most pictures have one plain thing, so that most of their parts are 0 and need not be read.
        rows, part = self._seen[pick].nonzero().unbind(1)
        added = stored.index_select(0, pick[rows] * PARTS + part).float()
        added *= weights[rows, part, None]
        objects = torch.zeros(len(pick), stored.shape[1]).index_add_(0, rows, added)
        backdrops = stored.index_select(0, pick * PARTS + PARTS - 1).float()
        shape = (len(pick), *self.parts.shape[2:])
        return objects.view(shape), backdrops.view(shape)

    def plain(self, pick: Tensor, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, 16, 16, 16] and ids [B, 24] of the pictures `pick` [B] as drawn, over greys [B], in plain captions."""
        scenes = [self.scenes[i] for i in pick.tolist()]
        colors = torch.from_numpy(np.stack([thing_colors(scene) for scene in scenes]))
        objects, backdrops = self.shown(pick, colors)
        texts = [f"{caption(scene)}, {self.views[i]}" for scene, i in zip(scenes, pick.tolist(), strict=True)]
        return objects + grey[:, None, None, None] * backdrops, self.ids(texts)

    def ids(self, texts: list[str]) -> Tensor:
        """Token ids [B, 24]."""
        encoded = self.tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True)
        return torch.tensor(encoded.input_ids)

    def exact_x0(
        self, batch: Batch, rows: Tensor, x_t: Tensor, t: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """E[x | x_t] over pictures of the same shapes, sizes and side in the same colours, for `rows` of a batch.

        Up to `count` pictures are asked, the sample's own among them (Xu et al. 2023, "Stable Target Field", which has
        the argument why the expected gradient stays).

        Args:
            x_t, t: of these rows, [R, 16, 16, 16] and [R].
        """
        others = []
        for own in batch.pick[rows].tolist():
            alike = self._alike[own]
            drawn = alike[torch.randperm(len(alike), generator=generator)[:count]]
            others.append(drawn[drawn != own][: count - 1])
        most = max(len(drawn) for drawn in others)
        there = torch.arange(1 + most) <= torch.tensor([len(drawn) for drawn in others])[:, None]
        objects = torch.zeros(len(rows), 1 + most, *x_t.shape[1:])
        backdrops = torch.zeros_like(objects)
        objects[:, 0], backdrops[:, 0] = batch.objects[rows], batch.backdrops[rows]
        row, place = there[:, 1:].nonzero().unbind(1)
        objects[row, 1 + place], backdrops[row, 1 + place] = self.shown(
            torch.cat(others), batch.colors[rows[row]]
        )
        mean = posterior_mean(x_t.flatten(1), t, objects.flatten(2), backdrops.flatten(2), there)
        return mean.reshape(x_t.shape)

    def has_others(self, pick: Tensor) -> Tensor:
        """Whether there are other pictures of the same shapes, sizes and side, for pictures `pick` [B]: [B]."""
        return self._others[pick]


def _shape(scene: Scene) -> tuple:
    """What a picture shows but for colours."""
    things = tuple((thing.kind, thing.finish, thing.size) for thing in scene.things)
    return things, scene.relation, scene.ground


def _seen_parts(scene: Scene) -> list[bool]:
    """Which of PARTS but the last can be other than 0: those of the colours that its things have, and what is fixed."""
    layers = [False] * 4
    for number, thing in enumerate(scene.things):
        layers[2 * number] = True
        layers[2 * number + 1] = thing.finish != "plain"
    return [seen for seen in layers for _ in range(3)] + [True]


def recolor(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same shapes in random colours, half of the things as people expect them; nothing that is held out."""

    def draw(thing: Thing) -> Thing:
        colors = tuple(COLORS)
        if rng.random() < 0.5:
            # What people expect of "a striped cat" is striped, though no cat is so where nothing is said.
            colors = tuple(color for color, _ in expected_looks(thing.kind, thing.finish))
        return Thing(thing.kind, colors[rng.integers(len(colors))], thing.finish, thing.size)

    for _ in range(20):
        things = tuple(draw(thing) for thing in scene.things)
        other = Scene(things, scene.relation, scene.ground)
        if not other.held_out and len({thing.unsized for thing in things}) == len(things):
            return other
    return scene


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
    parts = [
        encode_layers(torch.tensor(shard.layers[i : i + 100]).float() / 255, kernel, bias).half()
        for shard in shards
        for i in range(0, len(shard), 100)
    ]
    torch.save({"kernel": kernel, "bias": bias, "parts": torch.cat(parts)}, work / "latents.pt")


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
    return Latents(
        parts, [scene_of(label) for label in labels], [label["view"] for label in labels], tokenizer
    )


def split(data: Latents) -> tuple[Latents, Latents]:
    """What to train on, and the last samples, which are only measured."""

    def part(rows: slice) -> Latents:
        return Latents(data.parts[rows], data.scenes[rows], data.views[rows], data.tokenizer)

    return part(slice(0, -_CHECK)), part(slice(-_CHECK, None))
