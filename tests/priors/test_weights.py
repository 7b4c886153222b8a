"""What only real weights can show: run with RFGS_WEIGHTS=FOLDER_OR_ID (and RFGS_DEVICE=cuda) wherever some are at hand."""

from __future__ import annotations

import os

import pytest
import torch

from rfgs.priors import guided, load_prior
from rfgs.priors.flow import interpolate

pytestmark = pytest.mark.weights

PROMPT = "a photo of a red apple on a white table"


@pytest.fixture(scope="module")
def prior():
    return load_prior(os.environ["RFGS_WEIGHTS"], None, device=os.environ.get("RFGS_DEVICE", "cpu"))


@pytest.fixture(scope="module")
def latents(prior) -> torch.Tensor:
    """A picture that the model itself draws."""
    images = prior.sample(
        prior.embed([PROMPT]),
        prior.embed([""]),
        steps=20,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
    )
    red, _, blue = images[0].mean((1, 2))
    assert images.std() > 0.1 and red > blue  # Not noise, not grey, and the apple is red.
    with torch.no_grad():
        return prior.encode(images)


def test_latents_come_back(prior, latents: torch.Tensor) -> None:
    with torch.no_grad():
        again = prior.encode(prior.decode(latents))
    assert ((again - latents).norm() / latents.norm()).item() < 0.2
    assert 0.5 < latents.std().item() < 2.0  # What scale and shift are for.


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_the_network_knows_the_way_back(prior, latents: torch.Tensor, t: float) -> None:
    """At the right time label and with the right sign the estimate of the noise is close to what was added."""
    e = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)).to(latents)
    times, text, null = torch.tensor([t]), prior.embed([PROMPT]), prior.embed([""])
    if prior.kind == "flow":
        x_t = (1 - t) * latents + t * e
        v = guided(prior, x_t, times, text, null, 1.0)
        right, wrong = (v - (e - latents)).norm(), (v + (e - latents)).norm()
    else:
        x_t = interpolate(prior, latents, e, times)
        found = guided(prior, x_t, times, text, null, 1.0)
        right, wrong = (found - e).norm(), (found + e).norm()
    assert right < 0.6 * wrong


def test_instaflow_wants_the_label_of_its_own_sampler(prior, latents: torch.Tensor) -> None:
    """Which of the two labels in circulation is right: the one under which the velocity is closer to e - x."""
    if not hasattr(prior, "network_time"):
        pytest.skip("only InstaFlow's released code has two labels")
    errors = {}
    for label in ("correct", "authors"):
        prior.network_time, errors[label] = label, 0.0
        for t in (0.1, 0.3, 0.7, 0.9):
            e = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2)).to(latents)
            v = prior.predict((1 - t) * latents + t * e, torch.tensor([t]), prior.embed([PROMPT]))
            errors[label] += (v - (e - latents)).square().mean().item()
    prior.network_time = "correct"
    assert errors["correct"] < errors["authors"]
