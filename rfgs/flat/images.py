"""Images as tensors: to and from files, fitted to a model, compared with one another, and the noise behind them measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.flat.photos import read_photo

GRAIN = 16
"""Pixels: the models' image encoders shrink by 8, and their transformers see patches of 2."""


def to_tensor(image: Image.Image) -> Tensor:
    """[1, 3, H, W] float32 in [0, 1] of an RGB image."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def read_image(path: str | Path) -> Tensor:
    """[1, 3, H, W] float32 in [0, 1]; see `rfgs.flat.photos.read_photo` for what is understood and what is refused."""
    return to_tensor(read_photo(path))


def fit(image: Tensor, size: int, grain: int = GRAIN) -> Tensor:
    """Scale an image [B, 3, H, W] until its longer side is `size` pixels, and cut its shorter one to whole grains.

    What is cut off is less than one grain, half of it on either side; a side shorter than a grain is widened instead.

    Raises:
        UserError: `size` is no multiple of `grain`.
    """
    if size < grain or size % grain:
        raise UserError(f"--resolution {size}: has to be a multiple of {grain}; try {_nearest(size, grain)}")
    height, width = image.shape[-2:]
    scale = size / max(height, width)
    scaled = [max(grain, round(side * scale)) for side in (height, width)]
    if scaled != [height, width]:
        image = interpolate(image, scaled, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    kept = [side // grain * grain for side in scaled]
    top, left = ((side - keep) // 2 for side, keep in zip(scaled, kept, strict=True))
    return image[..., top : top + kept[0], left : left + kept[1]].contiguous()


def _nearest(size: int, grain: int) -> int:
    return max(grain, grain * round(size / grain))


def save_image(image: Tensor, path: str | Path) -> None:
    """Write one image [3, H, W] or [1, 3, H, W] in [0, 1] as 8-bit RGB; values outside are clamped.

    Raises:
        Unwritten: the disk does not take it.
    """
    pixels = image.detach().reshape(image.shape[-3:]).clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    with atomic(path) as temporary:
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(temporary)


def side_by_side(images: Sequence[Tensor], gap: int = 4) -> Tensor:
    """[3, H, W'] of images [3, H, W] of one height, from left to right with `gap` white pixels between."""
    space = images[0].new_ones(3, images[0].shape[-2], gap)
    parts = [part for image in images for part in (image, space)]
    return torch.cat(parts[:-1], dim=-1)


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB for values in [0, 1], of any equal shape; infinite if they are equal.

    Raises:
        TypeError: integers, whose differences wrap around (the authors' published numbers were too high for that).
    """
    _check_floats(image, reference)
    error = float((image.double() - reference.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: Tensor, reference: Tensor) -> float:
    """Structural similarity of images [B, C, H, W] in [0, 1], mean over pixels and channels; 1 if they are equal.

    Wang et al. 2004: a Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, where the window fits.

    Raises:
        TypeError: integers.
        ValueError: an image smaller than the window.
    """
    _check_floats(image, reference)
    if min(image.shape[-2:]) < 11:
        raise ValueError(
            f"SSIM needs images of at least 11x11 pixels, not {image.shape[-1]}x{image.shape[-2]}"
        )
    window = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5).square())
    window = (window / window.sum()).to(image.device)

    def mean(values: Tensor) -> Tensor:
        return conv2d(conv2d(values, window.view(1, 1, 1, 11)), window.view(1, 1, 11, 1))

    x, y = (values.double().reshape(-1, 1, *values.shape[-2:]) for values in (image, reference))
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    return float(similarity.mean())


def _check_floats(image: Tensor, reference: Tensor) -> None:
    for values in (image, reference):
        if not values.is_floating_point():
            raise TypeError(f"images to compare have to be floats in [0, 1], not {values.dtype}")
    if image.shape != reference.shape:
        raise ValueError(
            f"images to compare differ in shape: {tuple(image.shape)} and {tuple(reference.shape)}"
        )


@dataclass(frozen=True)
class NoiseStatistics:
    """How far noise is from white Gaussian noise of variance 1, for which the values are 0, 1 and 1."""

    mean: float
    variance: float
    whiteness: float
    """Flatness of the spectrum: 1 for white noise, towards 0 the more neighboring values have in common."""


def noise_statistics(noise: Tensor) -> NoiseStatistics:
    """Statistics over all values of noise [B, c, h, w].

    Whiteness is the spectral flatness (geometric over arithmetic mean of the power spectrum of each channel) in units
    of its expectation for white Gaussian noise: there each power is exponentially distributed, so that
    E[log P] = log E[P] - gamma with Euler's gamma. The mean and the three other frequencies whose coefficients are real
    follow another law, and are left out.
    """
    noise = noise.detach().double()
    height, width = noise.shape[-2:]
    power = torch.fft.fft2(noise).abs().square()
    rows, columns = torch.arange(height), torch.arange(width)
    real = (2 * rows % height == 0)[:, None] & (2 * columns % width == 0)[None, :]
    power = power[..., ~real.to(power.device)]
    total = float(power.mean()) if power.numel() else 0.0
    if total > 0:
        euler_gamma = 0.5772156649015329
        tiny = torch.finfo(torch.float64).tiny
        whiteness = math.exp(float(power.clamp_min(tiny).log().mean()) + euler_gamma) / total
    else:
        whiteness = 0.0
    return NoiseStatistics(float(noise.mean()), float(noise.var()), whiteness)
