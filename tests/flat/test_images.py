"""PSNR and SSIM by hand and against scipy, noise statistics against their closed forms, sizes and files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from rfgs.errors import UserError
from rfgs.flat.images import fit, noise_statistics, psnr, read_image, save_image, side_by_side, ssim


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 24, 32, generator=generator)
    return image, (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def test_psnr_by_hand() -> None:
    zeros = torch.zeros(1, 3, 4, 4)
    assert psnr(zeros, zeros + 0.1) == pytest.approx(20, abs=1e-5)
    assert psnr(zeros, zeros + 1) == pytest.approx(0)
    assert psnr(zeros, zeros) == math.inf
    half = zeros.clone()
    half[..., :2] = 0.5  # A mean squared error of 1/8.
    assert psnr(half, zeros) == pytest.approx(10 * math.log10(8))


def test_integers_are_not_compared() -> None:
    dark, light = (torch.full((1, 3, 12, 12), value, dtype=torch.uint8) for value in (0, 255))
    assert int((dark - light)[0, 0, 0, 0]) == 1  # What wrapping makes of black and white.
    for measure in (psnr, ssim):
        with pytest.raises(TypeError, match="uint8"):
            measure(dark, light)
        with pytest.raises(ValueError, match="differ in shape"):
            measure(torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 12, 16))


def test_ssim_is_that_of_scipy() -> None:
    image, reference = pair()

    def mean(values: np.ndarray) -> np.ndarray:
        # Where the window of 11 fits, the edges' treatment does not matter.
        return gaussian_filter(values, 1.5, truncate=3.5)[5:-5, 5:-5]

    values = []
    for x, y in zip(
        image.flatten(0, 1).double().numpy(), reference.flatten(0, 1).double().numpy(), strict=True
    ):
        mx, my = mean(x), mean(y)
        vx, vy, c = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
        values.append((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4)))
    assert ssim(image, reference) == pytest.approx(float(np.mean(values)), rel=1e-9)
    assert ssim(image, image) == pytest.approx(1)


def test_ssim_of_two_greys_by_hand() -> None:
    dark, light = torch.full((1, 1, 11, 11), 0.25), torch.full((1, 1, 11, 11), 0.75)
    assert ssim(dark, light) == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4), rel=1e-6)
    with pytest.raises(ValueError, match="at least 11x11 pixels, not 11x10"):
        ssim(dark[..., :10, :], light[..., :10, :])


def test_white_noise_has_the_statistics_of_white_noise() -> None:
    noise = torch.randn(4, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    statistics = noise_statistics(noise)
    assert statistics.mean == pytest.approx(0, abs=0.03)
    assert statistics.variance == pytest.approx(1, abs=0.05)
    assert statistics.whiteness == pytest.approx(1, abs=0.03)
    moved = noise_statistics(3 * noise + 2)
    assert moved.mean == pytest.approx(3 * statistics.mean + 2, abs=1e-5)
    assert moved.variance == pytest.approx(9 * statistics.variance, rel=1e-5)
    assert moved.whiteness == pytest.approx(statistics.whiteness, rel=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_whiteness_of_filtered_noise_is_the_closed_form(share: float) -> None:
    """n[x] + a n[x - 1] has the spectrum |1 + a z|^2: geometric mean 1 (Jensen's formula), arithmetic mean 1 + a^2."""
    noise = torch.randn(16, 16, 16, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for dim in (-1, -2):
        filtered = noise + share * noise.roll(1, dim)
        assert noise_statistics(filtered).whiteness == pytest.approx(1 / (1 + share**2), rel=0.03)


def test_noise_without_any_noise() -> None:
    assert noise_statistics(torch.ones(1, 4, 8, 8)).whiteness < 1e-6


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (128, 128, (128, 128)),
        (300, 400, (96, 128)),
        (400, 200, (128, 64)),
        (10, 10, (128, 128)),
        (100, 128, (96, 128)),
        (2000, 3, (128, 16)),
    ],
)
def test_fit_makes_whole_grains(height: int, width: int, expected: tuple[int, int]) -> None:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    fitted = fit(image, 128)
    assert fitted.shape == (1, 3, *expected)
    assert 0 <= fitted.min() and fitted.max() <= 1
    if (height, width) == (100, 128):  # Nothing to scale: the middle 96 rows.
        assert torch.equal(fitted, image[:, :, 2:98])


def test_fit_keeps_places() -> None:
    image = torch.linspace(0, 1, 400).view(1, 1, 1, 400).expand(1, 3, 400, 400)
    row = fit(image, 64)[0, 0, 32]
    torch.testing.assert_close(row[4:-4], ((torch.arange(64) + 0.5) / 64)[4:-4], atol=0.005, rtol=0)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="--resolution 100: has to be a multiple of 16; try 96"):
        fit(torch.rand(1, 3, 20, 20), 100)


def test_images_come_back_from_their_files(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (1, 3, 5, 7), generator=torch.Generator().manual_seed(4)) / 255
    save_image(image, tmp_path / "a.png")
    torch.testing.assert_close(read_image(tmp_path / "a.png"), image)
    save_image(image[0] * 3 - 1, tmp_path / "b.png")
    assert np.asarray(Image.open(tmp_path / "b.png")).max() == 255


def test_side_by_side() -> None:
    joined = side_by_side([torch.zeros(3, 4, 2), torch.zeros(3, 4, 3)], gap=1)
    assert joined.shape == (3, 4, 6)
    assert joined[0, 0].tolist() == [0, 0, 1, 0, 0, 0]
