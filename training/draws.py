"""What a training step is to learn from, before any latent is read: which pictures, in which colors, told in which words.

It is small and takes no part of the pictures, so that processes of their own can draw ahead of a training that is fast.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from rfgs.tinyworld.language import caption
from rfgs.tinyworld.pictures import recolor, thing_colors
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.shapes import shape_of
from training.text import MAX_TOKENS

EXACT_ABOVE = 0.5
"""Noise fraction above which targets are exact: below it a noisy latent tells which of the pictures it is of."""


def draw_times(size: int, generator: torch.Generator) -> Tensor:
    """Noise fractions [size] in (0, 1): half logit-normal as in SD3, half uniform, since distillation visits every level."""
    normal = torch.sigmoid(torch.randn(size, generator=generator))
    uniform = torch.rand(size, generator=generator)
    return torch.where(torch.rand(size, generator=generator) < 0.5, normal, uniform)


@dataclass
class Draw:
    """B samples of a training step."""

    pick: Tensor
    """Which pictures [B]."""
    colors: Tensor
    """In which colors [B, 4, 3], see `training.data.thing_colors`."""
    grey: Tensor
    """Over which grey [B]."""
    ids: Tensor
    """Token ids [B, 24]; a tenth of the captions are empty, and another tenth say no view."""
    t: Tensor
    """Noise fractions [B]."""
    rows: Tensor
    """Those samples [R] whose targets are exact."""
    others: Tensor
    """Pictures that show the same shapes, sizes and side as those, [R, K]; -1 where there are fewer."""


@dataclass
class Draws:
    """What the N training pictures show, for drawing samples of them."""

    scenes: list[Scene]
    views: list[str]
    tokenizer: CLIPTokenizer

    def __post_init__(self) -> None:
        alike: dict[tuple, list[int]] = defaultdict(list)
        keys = [(shape_of(scene), view) for scene, view in zip(self.scenes, self.views, strict=True)]
        for i, key in enumerate(keys):
            alike[key].append(i)
        groups = {key: torch.tensor(members) for key, members in alike.items()}
        self._alike = [groups[key] for key in keys]
        self._has_others = torch.tensor([len(members) > 1 for members in self._alike], dtype=torch.bool)
        self.seen = torch.tensor([_seen_parts(scene) for scene in self.scenes], dtype=torch.bool)
        """Which parts of each picture's latents but the last can be other than 0, [N, 13]."""

    def add(self, scenes: list[Scene], views: list[str]) -> None:
        """Take up more pictures."""
        self.scenes, self.views = self.scenes + scenes, self.views + views
        self.__post_init__()

    def draw(self, size: int, exact: int, generator: torch.Generator) -> Draw:
        """Random pictures in random colors over any grey, with captions whose wording varies, at random noise fractions.

        Args:
            exact: pictures over which a target above EXACT_ABOVE is averaged, the sample's own included; 1 averages none.
        """
        pick = torch.randint(len(self.scenes), (size,), generator=generator)
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        grey, t = torch.rand(size, generator=generator), draw_times(size, generator)
        shown = [recolor(self.scenes[i], rng) for i in pick.tolist()]
        texts = []
        for i, scene in zip(pick.tolist(), shown, strict=True):
            says = rng.random()
            text = "" if says < 0.1 else caption(scene, rng)
            texts.append(text if says < 0.2 else f"{text}, {self.views[i]}")
        colors = torch.from_numpy(np.stack([thing_colors(scene) for scene in shown]))
        rows = ((t > EXACT_ABOVE) & self._has_others[pick] & (exact > 1)).nonzero()[:, 0]
        others = torch.full((len(rows), exact - 1), -1)
        for row, own in zip(others, pick[rows].tolist(), strict=True):
            alike = self._alike[own]
            drawn = alike[torch.randperm(len(alike), generator=generator)[:exact]]
            drawn = drawn[drawn != own][: exact - 1]
            row[: len(drawn)] = drawn
        return Draw(pick, colors, grey, self.ids(texts), t, rows, others)

    def plain(self, pick: Tensor, grey: Tensor) -> Draw:
        """The pictures `pick` [B] as they were drawn, over greys [B], in plain captions; at t = 0, for measuring."""
        scenes = [self.scenes[i] for i in pick.tolist()]
        colors = torch.from_numpy(np.stack([thing_colors(scene) for scene in scenes]))
        texts = [f"{caption(scene)}, {self.views[i]}" for scene, i in zip(scenes, pick.tolist(), strict=True)]
        none = torch.zeros(0, dtype=torch.long)
        return Draw(pick, colors, grey, self.ids(texts), torch.zeros(len(pick)), none, none[:, None])

    def ids(self, texts: list[str]) -> Tensor:
        """Token ids [B, 24]."""
        encoded = self.tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True)
        return torch.tensor(encoded.input_ids)


def _seen_parts(scene: Scene) -> list[bool]:
    """Which of PARTS but the last can be other than 0: those of the colors that its things have, and what is fixed."""
    layers = [False] * 4
    for number, thing in enumerate(scene.things):
        layers[2 * number] = True
        layers[2 * number + 1] = thing.finish != "plain"
    return [seen for seen in layers for _ in range(3)] + [True]
