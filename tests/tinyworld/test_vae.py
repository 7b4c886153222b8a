"""The autoencoder's losses in closed form, and a training that learns and resumes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rfgs.tinyworld import data
from rfgs.tinyworld.vae import load_trained, new_vae, psnr, random_crops, reconstruction_loss, train_vae


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SHARD", 8)
        patch.setattr(data, "IMAGE_SIZE", 48)
        list(data.render_dataset(folder, 16, seed=0))
    return folder


def test_shapes_are_those_of_sd3() -> None:
    vae = new_vae()
    posterior = vae.encode(torch.zeros(2, 3, 32, 48)).latent_dist
    assert posterior.mode().shape == (2, 16, 4, 6)
    assert vae.decode(posterior.mode()).sample.shape == (2, 3, 32, 48)


def test_loss_is_zero_for_equal_pictures_and_counts_pixels_and_edges() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert reconstruction_loss(images, images) == 0
    # A constant error has no edges: |d| + 2 d^2.
    assert reconstruction_loss(images, images + 0.1).item() == pytest.approx(0.1 + 2 * 0.01, rel=1e-4)
    # A ramp across columns of slope s has differences s in one direction and none in the other.
    ramp = 0.01 * torch.arange(8.0).expand(1, 1, 8, 8)
    expected = 0.035 + 0.01 + 2 * 0.0001 * (np.arange(8) ** 2).mean()
    for output in (ramp, ramp.mT):
        assert reconstruction_loss(torch.zeros_like(ramp), output).item() == pytest.approx(expected, rel=1e-4)


def test_psnr_is_the_mean_over_pictures_with_a_peak_of_two_and_clamps_the_output() -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    output = images + torch.tensor([0.2, 0.02])[:, None, None, None]
    # -20 log10(0.2 / 2) = 20 dB and 40 dB.
    assert psnr(images, output) == pytest.approx(30, abs=1e-3)
    assert psnr(torch.full((1, 3, 4, 4), 0.8), torch.full((1, 3, 4, 4), 7.0)) == pytest.approx(20, abs=1e-3)
    assert math.isinf(psnr(images, images))


def test_crops_are_cut_from_the_pictures_and_repeat_with_the_generator() -> None:
    ramp = np.zeros((1, 16, 16, 4), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(16)[:, None] * 10, np.arange(16) * 10
    ramp[..., 3] = 255
    crops = random_crops([ramp], 20, 8, np.random.default_rng(0))
    assert crops.shape == (20, 3, 8, 8) and crops.dtype == torch.float32
    rows, columns = ((crops[:, :2] + 1) / 2 * 25.5).unbind(1)
    top, left = rows[:, :1, :1], columns[:, :1, :1]
    torch.testing.assert_close(rows, top + torch.arange(8.0)[:, None].expand(20, 8, 8), atol=1e-3, rtol=0)
    torch.testing.assert_close(columns, left + torch.arange(8.0).expand(20, 8, 8), atol=1e-3, rtol=0)
    assert {round(v) for v in top.flatten().tolist()} <= set(range(9)) and top.std() > 1 and left.std() > 1
    assert torch.equal(crops, random_crops([ramp], 20, 8, np.random.default_rng(0)))


def test_training_learns_and_a_resumed_run_goes_on_from_its_checkpoint(
    pictures: Path, tmp_path: Path, clock: None
) -> None:
    checkpoint = tmp_path / "vae.pt"
    options = {"seed": 0, "batch": 4, "crop": 16}
    [first] = train_vae(pictures, checkpoint, seconds=1, **options)  # One step, two readings of the clock.
    [later] = train_vae(pictures, checkpoint, seconds=60, **options)
    assert later["step"] > first["step"] + 40
    assert later["psnr"] > first["psnr"] + 2
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == later["step"]
    # The optimiser goes on too: its own count of steps is the checkpoint's.
    assert state["optimiser"]["state"][0]["step"] == later["step"]
    # Steps and time add up over both runs.
    assert later["step"] == pytest.approx(later["seconds"], abs=6)


def test_the_trained_model_is_loaded_frozen(pictures: Path, tmp_path: Path, clock: None) -> None:
    list(train_vae(pictures, tmp_path / "vae.pt", seconds=1, seed=0, batch=1, crop=16))
    vae = load_trained(tmp_path / "vae.pt")
    assert not vae.training and not any(p.requires_grad for p in vae.parameters())
    saved = torch.load(tmp_path / "vae.pt", weights_only=True)["vae"]
    assert all(torch.equal(value, saved[name]) for name, value in vae.state_dict().items())
