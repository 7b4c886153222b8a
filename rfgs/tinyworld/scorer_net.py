"""The scorer's network: pictures of 64x64 pixels and prompts of the world's own words into one space, and ten classifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 64
WIDTH = 128
"""Length of the embeddings that pictures and prompts share."""
MAX_WORDS = 32


def _convolution(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, [B, C, H, W] -> the same (He et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = _convolution(channels, channels, 1)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class ImageTower(nn.Module):
    """[B, 3, 64, 64] in [0, 1] -> features [B, 256]. Where things are counts, so the last grid is not averaged."""

    def __init__(
        self,
        widths: tuple[int, ...] = (48, 96, 160, 224),
        blocks: tuple[int, ...] = (1, 1, 2, 1),
        features: int = 256,
    ):
        super().__init__()
        # Squares of 2x2 pixels become channels: convolving at the full size would cost more than all the rest.
        layers: list[nn.Module] = [_convolution(3 * 4, widths[0], 1), _Residual(widths[0])]
        for before, width, count in zip(widths[:-1], widths[1:], blocks[1:], strict=True):
            layers += [_convolution(before, width, 2), *(_Residual(width) for _ in range(count))]
        self.layers = nn.Sequential(*layers)
        last = SIZE // 2 // 2 ** (len(widths) - 1)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * last**2, features), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        squares = F.pixel_unshuffle(4 * images - 2, 2)
        return self.features(self.layers(squares.contiguous(memory_format=torch.channels_last)))


class _TextBlock(nn.Module):
    """A pre-norm transformer block over [B, L, C]; `keep` [B, L] is true for real words."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :])
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


class TextTower(nn.Module):
    """Word numbers [B, L], 0 where there is none, -> features [B, 256] of the mean over words."""

    def __init__(self, words: int, width: int = 64, blocks: int = 2, features: int = 256):
        super().__init__()
        self.words = nn.Embedding(words + 1, width)
        self.places = nn.Parameter(torch.randn(MAX_WORDS, width))
        self.blocks = nn.ModuleList([_TextBlock(width) for _ in range(blocks)])
        self.features = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, features), nn.GELU())

    def forward(self, ids: Tensor) -> Tensor:
        keep = ids > 0
        x = self.words(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, keep)
        share = keep[..., None] / keep.sum(dim=1)[:, None, None].clamp_min(1)
        return self.features((x * share).sum(dim=1))


class ScorerNet(nn.Module):
    """Two towers into the sphere of 128 dimensions (CLIP, Radford et al. 2021), and a linear classifier for each of `labels`.

    Args:
        words: number of words that prompts can hold.
        labels: name of each classifier to its number of classes.
    """

    def __init__(self, words: int, labels: dict[str, int]):
        super().__init__()
        self.image, self.text = ImageTower(), TextTower(words)
        self.image_out, self.text_out = nn.Linear(256, WIDTH), nn.Linear(256, WIDTH)
        self.classifiers = nn.ModuleDict({name: nn.Linear(256, count) for name, count in labels.items()})
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        """Natural logarithm of what cosines are multiplied by to become the logits of a prompt."""

    def embed_features(self, features: Tensor) -> Tensor:
        """Unit vectors [B, 128] of a picture's features [B, 256]."""
        return F.normalize(self.image_out(features).float(), dim=-1)

    def embed_words(self, ids: Tensor) -> Tensor:
        """Unit vectors [B, 128] of word numbers [B, L]."""
        return F.normalize(self.text_out(self.text(ids)).float(), dim=-1)
