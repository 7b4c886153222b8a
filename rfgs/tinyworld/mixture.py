"""E[x | x_t] over very many pictures at once: of a few shapes, each in many views, in many looks, over any grey.

A picture's latents are linear in the colors: x = M_k c_s + g b_k, where M_k holds what each color channel of each layer adds.
So one matrix product with all M_k says what a latent has to do with every picture, and a look more costs a quadratic form
in a dozen numbers. The sums are those of `rfgs.tinyworld.posterior.posterior_mean`, which is the same written out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rfgs.tinyworld.album import Album
from rfgs.tinyworld.posterior import grey_behind

_NEGLIGIBLE = 1e-7
"""Of a mean, shares of pictures below this are left out."""


def latent_parts(album: Album, kernel: Tensor, bias: Tensor) -> tuple[Tensor, list[int]]:
    """What each color channel of each layer adds to an album's latents, by a linear encoder.

    Args:
        kernel: [c, 3, 8, 8];  bias: [c].

    Returns:
        [K, P, c, 16, 16] float32: own channels first, then all fixed colors with the bias, then what is behind; and
        the numbers of the own channels, 3 layer + channel, among the 12 of four colors.
    """
    own = [layer for layer in album.layers if layer < 4]
    fixed = [layer for layer in album.layers if 4 <= layer < 7]
    width = len(kernel)
    weights = kernel.permute(1, 2, 3, 0).reshape(3, -1, width)  # [channel, pixel, c]
    patches = torch.from_numpy(album.patches)
    columns = [album.layers.index(layer) for layer in own]
    own_weights = weights.permute(1, 0, 2).reshape(-1, 3 * width) / 255
    found = [(patches[..., i].float() @ own_weights).reshape(-1, 3, width) for i in columns]
    rest = torch.zeros(len(patches), width)
    for layer in fixed:
        rest += patches[..., album.layers.index(layer)].float() @ weights[layer - 4] / 255
    covered = patches[..., -1].float() @ weights.sum(0) / 255
    where = torch.from_numpy(album.where)
    parts = torch.zeros(*where.shape, 3 * len(own) + 2, width)
    parts[..., -2, :] = bias
    parts[..., -1, :] = weights.sum((0, 1))
    parts[where] += torch.cat([*found, rest[:, None], -covered[:, None]], dim=1)
    numbers = [3 * layer + channel for layer in own for channel in range(3)]
    return parts.permute(0, 3, 4, 1, 2).contiguous(), numbers


class Pictures:
    """K pictures in S looks each, as equally likely as `chances` says."""

    def __init__(self, parts: Tensor, colors: Tensor, words: Sequence[str], chances: Tensor) -> None:
        """`parts` [K, P, c, h, w] as of `latent_parts`, `colors` [K or 1, S, P - 2] of its own channels, `chances` [K]."""
        order = sorted(range(len(parts)), key=lambda i: words[i])
        parts, chances = parts[order].flatten(2), chances[order]
        colors = colors[order] if len(colors) > 1 else colors
        self.words = tuple(words[i] for i in order)
        self.size = parts.shape[1]
        self.parts = parts.flatten(0, 1)
        """[K P, D], the pictures of each side together."""
        self.colors = torch.cat([colors, torch.ones_like(colors[..., :1])], dim=-1).double()
        gram = torch.stack([one.double() @ one.double().T for one in parts])
        own, behind = gram[:, :-1, :-1], gram[:, :-1, -1]
        self.squares = torch.einsum("ksp,kpq,ksq->ks", self._colors(), own, self._colors())
        self.slopes = torch.einsum("ksp,kp->ks", self._colors(), behind)
        self.across = gram[:, -1, -1].clamp_min(1e-12)
        self.chances = chances.double()

    def _colors(self) -> Tensor:
        return self.colors.expand(len(self.words), -1, -1)

    def rows(self, word: str | None) -> slice:
        """The pictures of one side, or all."""
        if word is None:
            return slice(0, len(self.words))
        count = self.words.count(word)
        first = self.words.index(word) if count else 0
        return slice(first, first + count)

    def scores(self, x_t: Tensor, t: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Logarithms of how likely pictures are, but for a summand that all share, and the greys behind: [B, k, S] each.

        Args:
            x_t: latents [B, D];  t: [B] in (0, 1].
        """
        size, colors = self.size, self._colors()[rows]
        along = (x_t @ self.parts[rows.start * size : rows.stop * size].T).reshape(len(x_t), -1, size)
        along = along.double()
        keep, t = (1 - t.double())[:, None, None], t.double()[:, None, None]
        seen = keep.clamp_min(1e-6)
        across = self.across[rows, None]
        # What is left of x_t when the object is taken away, along the background and in all.
        rest = along[..., -1:] - keep * self.slopes[rows]
        misfit = keep.square() * self.squares[rows] - 2 * keep * torch.einsum(
            "bkp,ksp->bks", along[..., :-1], colors
        )
        evidence, grey = grey_behind(rest / (seen * across), (t / (seen * across.sqrt())).expand_as(rest))
        return evidence - (misfit - rest.square() / across) / (2 * t.square()), grey

    def mean(self, weights: Tensor, grey: Tensor, rows: slice) -> Tensor:
        """The sum of the pictures, each `weights` [B, k, S] of times, over greys: [B, D]."""
        own = torch.einsum("bks,ksp->bkp", weights, self._colors()[rows])
        shares = torch.cat([own, (weights * grey).sum(-1, keepdim=True)], dim=-1).float()
        parts = self.parts[rows.start * self.size : rows.stop * self.size].unflatten(0, (-1, self.size))
        some = (weights.sum(-1) > _NEGLIGIBLE).any(dim=0)
        if some.float().mean() < 0.5:
            shares, parts = shares[:, some], parts[some]
        return shares.flatten(1) @ parts.flatten(0, 1)


def mixture_mean(blocks: Sequence[Pictures], x_t: Tensor, t: Tensor, sides: dict[str, float]) -> Tensor:
    """E[x | x_t], [B, D], where x is a picture of `blocks`, every look as likely as the other.

    Args:
        x_t, t: [B, D] and [B] in (0, 1].
        sides: how likely each side is, by its words; empty takes them as often as training shows them.
    """
    asked = {word: share for word, share in sides.items() if share > 0}
    only = next(iter(asked)) if len(asked) == 1 else None
    found = []
    for block in blocks:
        rows = block.rows(only)
        score, grey = block.scores(x_t, t, rows)
        chances = block.chances[rows]
        if len(asked) > 1:
            totals = {word: sum(other.chances[other.rows(word)].sum() for other in blocks) for word in asked}
            factors = [asked[word] / totals[word] if word in asked else 0.0 for word in block.words]
            chances = chances * torch.tensor(factors).to(chances)
        found.append((score + chances.log()[:, None], grey, rows))
    top = torch.stack([score.flatten(1).amax(1) for score, _, _ in found]).amax(0)[:, None, None]
    weights = [torch.exp(score - top) for score, _, _ in found]
    total = sum(weight.sum((1, 2)) for weight in weights)
    return torch.stack(
        [
            block.mean(weight / total[:, None, None], grey, rows)  # type: ignore[index]
            for block, weight, (_, grey, rows) in zip(blocks, weights, found, strict=True)
        ]
    ).sum(0)
