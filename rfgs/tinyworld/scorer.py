"""`Scorer`: a small image-text model that judges pictures and assets of the tiny world; it ships in `assets/scorer`.

    scorer = load_scorer()
    scorer.similarity(images, ["a red mug", "a blue car"])  # [B, 2] cosines
    scorer.classify(images)["kind"].argmax(dim=1)           # numbers into scorer.labels["kind"]
    scorer.score_asset(splats, "a red mug", prompts).score  # 0 to 100

The score of an asset is in the style of T3Bench (He et al. 2023, arXiv 2310.02977: a value for each vertex of an icosphere,
averaged three times with the neighboring ones), with retrieval in the place of a reward. Let s[v, q] be the cosine of view v
and prompt q, and let S = A^3 s, where A takes the mean of a view and its neighbors. With p the asset's own prompt,

    rank[v] = 1 + #{q: S[v, q] > S[v, p]} + #{q != p: S[v, q] = S[v, p]} / 2
    score = 100 mean_v 1 / rank[v]                          (T3Bench takes the best view in place of the mean: `peak`)

so 100 means that every side of the asset is told apart from all other prompts of the set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from rfgs.errors import UserError
from rfgs.models import embedded
from rfgs.render import render
from rfgs.tinyworld.asset_views import asset_views
from rfgs.tinyworld.language import UnknownThing, parse
from rfgs.tinyworld.scorer_net import MAX_WORDS, SIZE, ScorerNet

if TYPE_CHECKING:
    from rfgs.splats import Splats
    from rfgs.tinyworld.scenes import Scene

ROUNDS = 3
"""How often the similarities of a view are averaged with those of its neighbors (T3Bench's number)."""
AZIMUTHS = tuple(f"{15 * i - 172.5:g}" for i in range(24))
ELEVATIONS = tuple(f"{5 * i - 7.5:g}" for i in range(19))
"""Middles, in degrees, of the classes of the classifiers "azimuth" (15 degrees wide) and "elevation" (5 degrees)."""
BACKGROUND = 0.5
"""Grey level behind an asset that is judged: no color of the world, and neither its white nor its black."""


@dataclass(frozen=True)
class AssetScore:
    """How well one asset is told apart by its prompt; see the module's text for the formula."""

    score: float
    """0 to 100, mean over views of 100 / rank."""
    peak: float
    """0 to 100, the same for the best view: what T3Bench reports."""
    top1: float
    """Share of the views, 0 to 1, in which the prompt ranks first."""
    rank: float
    """Rank of the prompt when the similarities of all views are averaged; 1 is best."""
    similarity: float
    """Mean over views of the cosine with the prompt."""
    ranks: Tensor
    """Rank in each view, [V]."""


def load_scorer(folder: Path | None = None) -> Scorer:
    """The scorer in `folder`; None means the one that ships with the program, in a distribution of its own."""
    return Scorer.load(embedded.folder("scorer") if folder is None else folder)


class Scorer:
    """The network with its words and classes, for judging only (no gradients)."""

    def __init__(self, net: ScorerNet, words: Sequence[str], labels: dict[str, tuple[str, ...]]):
        self.net = net.eval().requires_grad_(False)
        self.words = tuple(words)
        self.labels = labels
        """Name of each classifier to its classes, in the order of the logits."""

    @staticmethod
    def load(folder: Path) -> Scorer:
        """Read `model.safetensors` and `config.json`. Raises UserError where they are missing."""
        if not (folder / "config.json").exists() or not (folder / "model.safetensors").exists():
            if folder == embedded.folder("scorer"):
                raise UserError(f"the scorer's files are not installed; {embedded.remedy('scorer')}")
            raise UserError(
                f"{folder} holds no scorer: config.json and model.safetensors come from "
                "`python -m training.train_scorer` in a checkout"
            )
        config = json.loads((folder / "config.json").read_text())
        labels = {name: tuple(classes) for name, classes in config["labels"].items()}
        net = ScorerNet(len(config["words"]), {name: len(classes) for name, classes in labels.items()})
        stored = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        # Counters of the normalizations are not stored; they only matter for training.
        counters = {name: value for name, value in net.state_dict().items() if not value.is_floating_point()}
        net.load_state_dict({**counters, **stored})
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Scorer(net, config["words"], labels)

    def unknown(self, scene: Scene) -> list[str]:
        """The kinds, colors and finishes of a scene that it has no classes for; its verdicts on such a scene say nothing."""
        names = [(key, getattr(thing, key)) for thing in scene.things for key in ("kind", "color", "finish")]
        return [name for key, name in names if name not in self.labels[key]]

    def known(self, prompts: Sequence[str]) -> list[str]:
        """Those prompts of whose words and looks the scorer, which may be older than the world, knows all."""

        def looks_known(prompt: str) -> bool:
            try:
                return not any(self.unknown(scene) for scene in parse(prompt).looks())
            except UnknownThing:
                return True

        return [p for p in prompts if not self.unknown_words([p]) and looks_known(p)]

    def unknown_words(self, prompts: Sequence[str]) -> list[str]:
        """The words of prompts that it does not know, in alphabetical order."""
        return sorted({word for prompt in prompts for word in _words(prompt)} - set(self.words))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features [B, 256] of images [B, 3, H, W] in [0, 1], in batches of 64."""
        return torch.cat([self.net.image(prepare(part)) for part in images.split(64)])

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [B, 128] of images [B, 3, H, W] in [0, 1]."""
        return self.net.embed_features(self.features(images))

    @torch.no_grad()
    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors [P, 128] of prompts. Raises UserError for a word that the scorer does not know."""
        return torch.cat(
            [
                self.net.embed_words(word_ids(prompts[i : i + 256], self.words))
                for i in range(0, len(prompts), 256)
            ]
        )

    def similarity(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosines [B, P] of images [B, 3, H, W] in [0, 1] and prompts."""
        return self.embed_images(images) @ self.embed_prompts(prompts).T

    @torch.no_grad()
    def classify(self, images: Tensor) -> dict[str, Tensor]:
        """Logits [B, len(labels[name])] of each classifier for images [B, 3, H, W] in [0, 1].

        "kind", "color" and "finish" are of the main thing, the first that a caption names; "second_kind" and "second_color"
        mean something only where "relation" is not "none".
        """
        features = self.features(images)
        return {name: head(features) for name, head in self.net.classifiers.items()}

    def score_views(
        self, images: Tensor, prompt: str, prompts: Sequence[str], neighbors: Tensor
    ) -> AssetScore:
        """Score pictures of one asset, [V, 3, H, W] in [0, 1], against `prompts`; see `score_vectors`."""
        return self.score_vectors(self.embed_images(images), prompt, prompts, neighbors)

    def score_vectors(
        self, vectors: Tensor, prompt: str, prompts: Sequence[str], neighbors: Tensor
    ) -> AssetScore:
        """Score pictures of one asset, embedded by `embed_images`, against `prompts`, one of which is `prompt`.

        Args:
            vectors: [V, 128].
            neighbors: bools [V, V], which views lie beside one another; see `asset_views`.

        Raises:
            UserError: `prompt` is not one of `prompts`, there is only one, or a word is unknown.
        """
        names = list(dict.fromkeys(prompts))
        if prompt not in names or len(names) < 2:
            raise UserError(
                f"prompt {prompt!r} must be one of the set's {len(names)} prompts, which must be at least 2"
            )
        cosines = vectors @ self.embed_prompts(names).T
        return score_similarities(cosines, names.index(prompt), neighbors)

    def score_asset(
        self, splats: Splats, prompt: str, prompts: Sequence[str], *, size: int = 128
    ) -> AssetScore:
        """Score the pictures of `asset_pictures`, `size` pixels wide."""
        images, neighbors = asset_pictures(splats, size)
        return self.score_views(images, prompt, prompts, neighbors)


def asset_pictures(splats: Splats, size: int = 128) -> tuple[Tensor, Tensor]:
    """`splats` from all views of `asset_views` over grey, [V, 3, size, size] in [0, 1], and which views are neighbors."""
    cameras, neighbors = asset_views(size)
    with torch.no_grad():
        images = render(splats.detach(), cameras.to(splats.device), torch.full((3,), BACKGROUND)).rgb.cpu()
    return images, neighbors


def score_similarities(similarities: Tensor, own: int, neighbors: Tensor) -> AssetScore:
    """The score of an asset from the cosines [V, P] of its views and all prompts, `own` being its own one."""
    ranks = rank(smooth(similarities, neighbors), own)
    return AssetScore(
        score=100 * ranks.reciprocal().mean().item(),
        peak=100 * ranks.reciprocal().max().item(),
        top1=(ranks == 1).float().mean().item(),
        rank=rank(similarities.mean(dim=0, keepdim=True), own).item(),
        similarity=similarities[:, own].mean().item(),
        ranks=ranks,
    )


def prepare(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [0, 1] -> [B, 3, 64, 64]: the middle square, resampled with antialiasing, clamped."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"scorer: images are {list(images.shape)}, expected [B, 3, H, W]")
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = images[..., top : top + side, left : left + side].float().cpu()
    if side != SIZE:
        images = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return images.clamp(0, 1)


def _words(text: str) -> list[str]:
    return text.lower().replace(",", " ").replace(".", " ").split()


def word_ids(texts: Sequence[str], words: Sequence[str]) -> Tensor:
    """Numbers [B, L] of the words of each text, counted from 1 in the order of `words`; 0 fills short rows.

    Commas and capitals are ignored. Raises UserError for a word that is not in `words`, or a text that is empty or too long.
    """
    numbers = {word: number for number, word in enumerate(words, start=1)}
    rows = []
    for text in texts:
        said = _words(text)
        unknown = [word for word in said if word not in numbers]
        if unknown:
            raise UserError(f"scorer: {text!r}: unknown {', '.join(unknown)}; it knows {', '.join(words)}")
        if not 0 < len(said) <= MAX_WORDS:
            raise UserError(f"scorer: {text!r} has {len(said)} words, must have 1 to {MAX_WORDS}")
        rows.append([numbers[word] for word in said])
    longest = max((len(row) for row in rows), default=1)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long).view(
        -1, longest
    )


def nearest(degrees: float, middles: Sequence[str]) -> str:
    """The class of AZIMUTHS or ELEVATIONS that an angle falls into."""
    return min(middles, key=lambda middle: abs((degrees - float(middle) + 180) % 360 - 180))


def seen_from(logits: dict[str, Tensor], views: Sequence[str]) -> Tensor:
    """Whether each of B pictures shows what its view's words name, give or take one class of angles: bools [B].

    Words have sharp borders (`rfgs.render.cameras.view_words`), and a picture a degree from one of them could be called either.
    So the likeliest azimuth may lie up to 15 degrees outside the quarter that the words name, and the elevation up to 5
    degrees beyond 60. By chance a picture of one side is taken for a given one in a third of the cases.

    Args:
        logits: of `Scorer.classify`.
        views: B times "front view", "back view", "left side view", "right side view" or "overhead view".
    """
    azimuth = torch.tensor([float(middle) for middle in AZIMUTHS])[logits["azimuth"].argmax(dim=1)]
    elevation = torch.tensor([float(middle) for middle in ELEVATIONS])[logits["elevation"].argmax(dim=1)]
    middles = {
        "front view": 0,
        "left side view": 90,
        "back view": 180,
        "right side view": -90,
        "overhead view": 0,
    }
    middle = torch.tensor([middles[view] for view in views])
    overhead = torch.tensor([view == "overhead view" for view in views])
    aside = (elevation < 65) & (((azimuth - middle + 180) % 360 - 180).abs() < 60)
    return torch.where(overhead, elevation > 55, aside)


def rank(similarities: Tensor, own: int) -> Tensor:
    """Rank [V], from 1, of column `own` in each row of similarities [V, P]; ties count half."""
    mine = similarities[:, own : own + 1]
    # The own column ties with itself, which counts the half that is taken off again.
    return 0.5 + (similarities > mine).sum(dim=1) + 0.5 * (similarities == mine).sum(dim=1)


def smooth(values: Tensor, neighbors: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Values [V, P] of views, each averaged with those of its neighbors (bools [V, V]), `rounds` times."""
    weights = neighbors.float() + torch.eye(len(neighbors))
    weights = weights / weights.sum(dim=1, keepdim=True)
    for _ in range(rounds):
        values = weights @ values
    return values
