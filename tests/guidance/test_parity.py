"""Gradients of every guidance in float32 against the published equations, written out in float64 numpy, signs and all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from rfgs.guidance import rfds, rfds_rev, rfds_vsd, sds, vsd
from rfgs.priors import flow
from rfgs.priors.base import Condition
from rfgs.priors.flow import per_sample

B, C, SIDE = 3, 4, 5
SCALE = 50.0
rng = np.random.default_rng(0)
MIX, SHIFT, STUDENT = rng.normal(size=(C, C)), rng.normal(size=C), rng.normal(size=(C, C))
X, E = rng.normal(size=(2, B, C, SIDE, SIDE))
TEXT, NULL = np.array([0.8, -0.3, 0.5]), np.array([0.1, 0.1, 0.1])
T = np.array([0.12, 0.5, 0.93])
"""House convention: noise fractions."""


def network(x: np.ndarray, label: np.ndarray, c: np.ndarray, mix: np.ndarray = MIX) -> np.ndarray:
    """A net that nobody could mistake for a closed form; what its output means is the convention's affair."""
    mixed = np.einsum("dc,bchw->bdhw", mix, x)
    return np.tanh(mixed + label[:, None, None, None]) * (1 + c)[:, None, None, None] + SHIFT[:, None, None]


def torch_network(x: Tensor, label: Tensor, condition: Condition, mix: np.ndarray = MIX) -> Tensor:
    mixed = torch.einsum("dc,bchw->bdhw", torch.from_numpy(mix).to(x), x)
    c = condition.tokens[:, 0, 0]
    return (
        torch.tanh(mixed + per_sample(label, x)) * per_sample(1 + c, x)
        + torch.from_numpy(SHIFT).to(x)[:, None, None]
    )


class Flow(flow.Flow):
    """The network as a prior, in the house's convention."""

    name, image_size, vocabulary = "net", SIDE, None

    def __init__(self, convention: str, mix: np.ndarray = MIX) -> None:
        self.convention, self.mix = convention, mix

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        if self.convention == "sd3":
            return torch_network(x_t, t, condition, self.mix)
        return -torch_network(x_t, 1 - t, condition, self.mix)


class Diffusion(flow.Diffusion):
    """The network as a diffusion model."""

    name, image_size, vocabulary = "net", SIDE, None

    def alpha_bars(self, t: Tensor) -> Tensor:
        return torch.cos(1.5 * t).square()

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return torch_network(x_t, t, condition)


def guided(x_t: np.ndarray, label: np.ndarray) -> np.ndarray:
    null = network(x_t, label, NULL)
    return null + SCALE * (network(x_t, label, TEXT) - null)


def gradient(guidance: Callable, *arguments, **options) -> np.ndarray:
    """By autograd in float32."""
    x = torch.from_numpy(X).float().requires_grad_()
    text, null = (Condition(torch.from_numpy(c).float()[:, None, None]) for c in (TEXT, NULL))
    t, e = torch.from_numpy(T).float(), torch.from_numpy(E).float()
    guidance(*arguments, x, text, null, t=t, e=e, guidance_scale=SCALE, **options).loss.backward()
    return x.grad.numpy()


def check(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def column(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.asarray(values)[:, None, None, None]


SIGMA, TAU = column(T), column(1 - T)


def test_rfds_sd3() -> None:
    v = guided((1 - SIGMA) * X + SIGMA * E, T)
    check(gradient(rfds, Flow("sd3")), (v - (E - X)) / B)


def test_rfds_instaflow() -> None:
    v = guided(TAU * X + (1 - TAU) * E, 1 - T)  # Points from noise to data.
    check(gradient(rfds, Flow("instaflow")), -(v - (X - E)) / B)


@pytest.mark.parametrize("n", [1, 3])
def test_rfds_rev_sd3(n: int) -> None:
    e = E
    for _ in range(n):
        v = network((1 - SIGMA) * X + SIGMA * e, T, TEXT)
        e = e + (1 - SIGMA) * (X + v - e)
    v = guided((1 - SIGMA) * X + SIGMA * e, T)
    check(gradient(rfds_rev, Flow("sd3"), steps=n), (v - (e - X)) / B)


@pytest.mark.parametrize("n", [1, 3])
def test_rfds_rev_instaflow(n: int) -> None:
    e = E
    for _ in range(n):
        v = network(TAU * X + (1 - TAU) * e, 1 - T, TEXT)
        e = e + (X - e - v)
    v = guided(TAU * X + (1 - TAU) * e, 1 - T)
    check(gradient(rfds_rev, Flow("instaflow"), steps=n, exact=True), -(v - (X - e)) / B)


@pytest.mark.parametrize("n", [1, 3])
def test_rfds_rev_with_adam(n: int) -> None:
    e, first, second = E, np.zeros_like(E), np.zeros_like(E)
    for k in range(1, n + 1):
        slope = (e - X) - network((1 - SIGMA) * X + SIGMA * e, T, TEXT)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        e = e - 0.1 * (first / (1 - 0.9**k)) / (np.sqrt(second / (1 - 0.999**k)) + 1e-8)
    v = guided((1 - SIGMA) * X + SIGMA * e, T)
    check(gradient(rfds_rev, Flow("sd3"), steps=n, step_size=0.1, optimizer="adam"), (v - (e - X)) / B)


def test_rfds_vsd_sd3() -> None:
    x_t = (1 - SIGMA) * X + SIGMA * E
    student = Flow("sd3", STUDENT)
    text = Condition(torch.from_numpy(TEXT).float()[:, None, None])
    found = gradient(rfds_vsd, Flow("sd3"), lambda x, t: student.predict(x, t, text))
    check(found, (guided(x_t, T) - network(x_t, T, TEXT, STUDENT)) / B)


def test_rfds_vsd_instaflow() -> None:
    x_t = TAU * X + (1 - TAU) * E
    student = Flow("instaflow", STUDENT)
    text = Condition(torch.from_numpy(TEXT).float()[:, None, None])
    found = gradient(rfds_vsd, Flow("instaflow"), lambda x, t: student.predict(x, t, text))
    check(found, -(guided(x_t, 1 - T) - network(x_t, 1 - T, TEXT, STUDENT)) / B)


ALPHA_BAR = column(np.cos(1.5 * T) ** 2)
X_T = np.sqrt(ALPHA_BAR) * X + np.sqrt(1 - ALPHA_BAR) * E


def test_sds() -> None:
    check(gradient(sds, Diffusion()), (1 - ALPHA_BAR) * (guided(X_T, T) - E) / B)


def test_vsd() -> None:
    text = Condition(torch.from_numpy(TEXT).float()[:, None, None])
    found = gradient(vsd, Diffusion(), lambda x, t: torch_network(x, t, text, STUDENT))
    check(found, (1 - ALPHA_BAR) * (guided(X_T, T) - network(X_T, T, TEXT, STUDENT)) / B)
