"""The posterior mean against brute force over grey and pictures in float64, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import fixed_quad
from torch import Tensor

from rfgs.tinyworld.posterior import grey_behind, posterior_mean


def integral(best: float, spread: float) -> tuple[float, float]:
    """The logarithm of int_0^1 exp(-(g - best)^2 / (2 spread^2)) dg and the mean of g, by quadrature outwards from the top.

    Steps from the top and differences of squares written as products keep all digits, however steep the density is there.
    """
    top = min(max(best, 0.0), 1.0)

    def density(step: np.ndarray) -> np.ndarray:
        return np.exp(-step * (2 * top + step - 2 * best) / (2 * spread**2))

    def weighted(step: np.ndarray) -> np.ndarray:
        return step * density(step)

    steps = np.concatenate([[0], np.geomspace(1e-16, 1, 120)])
    share = moment = 0.0
    for sign, room in ((1, 1 - top), (-1, top)):
        edges = np.unique(np.minimum(steps, room))
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            share += sign * fixed_quad(density, sign * low, sign * high, n=20)[0]
            moment += sign * fixed_quad(weighted, sign * low, sign * high, n=20)[0]
    return math.log(share) - (top - best) ** 2 / (2 * spread**2), top + moment / share


@pytest.mark.parametrize("spread", [0.003, 0.05, 0.7, 20.0, 1e4])
@pytest.mark.parametrize("best", [-3.0, -0.2, 0.0, 0.3, 0.5, 0.999, 1.4, 7.0])
def test_grey_behind_is_the_integral(best: float, spread: float) -> None:
    """Also where all of [0, 1] lies a thousand spreads away from what is seen: logarithms do not give out."""
    expected, mean = integral(best, spread)
    for given, right in ((best, mean), (1 - best, 1 - mean)):
        evidence, grey = grey_behind(*torch.tensor([given, spread], dtype=torch.float64))
        assert evidence.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert grey.item() == pytest.approx(right, abs=2e-6)


def test_grey_behind_takes_any_shape_and_is_never_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    best = 1e3 * torch.randn(4, 5, 6, generator=generator)
    spread = torch.exp(6 * torch.randn(4, 5, 6, generator=generator))
    evidence, grey = grey_behind(best, spread)
    assert evidence.shape == grey.shape == best.shape and grey.dtype == torch.float64
    assert torch.isfinite(evidence).all() and (evidence <= 1e-9).all()
    assert (grey >= 0).all() and (grey <= 1).all()


def some_pictures(size: int, pictures: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(pictures)
    objects, backdrops = torch.randn(2, batch, pictures, size, generator=generator)
    return objects, 0.7 * backdrops


def brute_force(x_t: Tensor, t: Tensor, objects: Tensor, backdrops: Tensor, there: Tensor) -> Tensor:
    """The posterior mean by a sum over pictures and 40,001 greys, in float64."""
    greys = torch.linspace(0, 1, 40_001, dtype=torch.float64)
    weights = torch.ones_like(greys)
    weights[[0, -1]] = 0.5
    means = []
    for x, level, own, behind, kept in zip(
        x_t.double(), t.double(), objects.double(), backdrops.double(), there, strict=True
    ):
        pictures = own[:, None] + greys[None, :, None] * behind[:, None]
        log = -(x - (1 - level) * pictures).square().sum(-1) / (2 * level**2)
        log = (log + weights.log()).masked_fill(~kept[:, None], -math.inf)
        means.append(torch.einsum("kg,kgd->d", log.flatten().softmax(0).view_as(log), pictures))
    return torch.stack(means)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("pictures", [1, 4])
def test_the_posterior_mean_is_the_sum_over_pictures_and_greys(level: float, pictures: int) -> None:
    objects, backdrops = some_pictures(9, pictures)
    generator = torch.Generator().manual_seed(5)
    grey = torch.rand(3, 1, generator=generator)
    noise = torch.randn(3, 9, generator=generator)
    x_t = (1 - level) * (objects[:, 0] + grey * backdrops[:, 0]) + level * noise
    t, there = torch.full((3,), level), torch.ones(3, pictures, dtype=torch.bool)
    there[1, 2:] = False
    found = posterior_mean(x_t, t, objects, backdrops, there)
    assert found.dtype == torch.float32 and found.shape == (3, 9)
    expected = brute_force(x_t, t, objects, backdrops, there)
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-4)
    if pictures == 1:
        assert torch.equal(posterior_mean(x_t, t, objects, backdrops), found)
    else:
        # What is not there does not count, and what counts does.
        moved = objects.clone()
        moved[1, 2:] += 3
        torch.testing.assert_close(posterior_mean(x_t, t, moved, backdrops, there), found)
        assert (
            not torch.allclose(posterior_mean(x_t, t, objects, backdrops)[1], found[1], atol=1e-4)
            or level < 0.5
        )


def test_without_noise_it_is_the_picture_itself_and_in_noise_alone_the_mean_of_all() -> None:
    objects, backdrops = some_pictures(4096, 6)
    grey = torch.tensor([0.0, 0.4, 1.0])[:, None]
    noise = torch.randn(3, 4096, generator=torch.Generator().manual_seed(1))
    x = objects[:, 3] + grey * backdrops[:, 3]
    for level in (1e-4, 1e-3, 0.01):
        x_t = (1 - level) * x + level * noise
        found = posterior_mean(x_t, torch.full((3,), level), objects, backdrops)
        # A grey is seen to within level / |backdrop|, 1 / 45 of the level.
        assert (found - x).abs().max() < 0.2 * level + 1e-6
    for level in (1 - 1e-5, 1.0):
        t = torch.full((3,), level)
        found = posterior_mean((1 - level) * x + level * noise, t, objects, backdrops)
        mean = objects.mean(dim=1) + 0.5 * backdrops.mean(dim=1)
        torch.testing.assert_close(found, mean, atol=5e-3, rtol=0)


def test_pictures_are_told_apart_at_small_noise_where_squares_would_cancel() -> None:
    """Two pictures that differ by less than floats can tell of their sums of squares, at a level that still sees it."""
    objects, backdrops = some_pictures(4096, 1, batch=1)
    objects, backdrops = 5 * objects.repeat(1, 2, 1), 10 * backdrops.repeat(1, 2, 1)
    objects[0, 1, :4] += 0.01
    level = 1e-3
    x_t = (1 - level) * (objects[:, 1] + 0.9 * backdrops[:, 1])
    found = posterior_mean(x_t, torch.tensor([level]), objects, backdrops)
    seen = (found - objects[:, 0] - 0.9 * backdrops[:, 0])[0, :4]
    # exp(-4 0.01^2 / (2 0.001^2)) = e^-200 is left of the other one.
    torch.testing.assert_close(seen, torch.full((4,), 0.01), atol=5e-5, rtol=0)


def test_pictures_that_hide_the_background_have_no_grey() -> None:
    objects = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    found = posterior_mean(
        torch.tensor([[0.3, 0.2]]), torch.tensor([0.8]), objects, torch.zeros_like(objects)
    )
    log = torch.tensor([-((0.3 - 0.2) ** 2) - 0.2**2, -(0.3**2) - (0.2 - 0.2) ** 2]) / (2 * 0.8**2)
    torch.testing.assert_close(found, log.softmax(0)[None])
