"""The linear encoder against principal components and by its linearity, the losses in closed form, a decoder that learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rfgs.tinyworld.pictures import PATCH
from training import data
from training.vae import (
    CHANNELS,
    fit_encoder,
    load_trained,
    new_vae,
    psnr,
    random_crops,
    reconstruction_loss,
    set_encoder,
    train_decoder,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SHARD", 8)
        patch.setattr(data, "IMAGE_SIZE", 48)
        list(data.render_dataset(folder, 16, seed=0, workers=1))
    return folder


@pytest.fixture(scope="module")
def encoder(pictures: Path) -> tuple[Tensor, Tensor]:
    rgba = np.concatenate([shard[:] for shard in data.open_shards(pictures)])
    return fit_encoder(torch.from_numpy(data.composite(rgba, np.random.default_rng(0))))


def random_pictures(count: int, seed: int = 0) -> Tensor:
    """Noise of [count, 3, 32, 48] in [0, 1]."""
    return torch.rand(count, 3, 32, 48, generator=torch.Generator().manual_seed(seed))


# The encoder


def test_shapes_are_those_of_sd3() -> None:
    vae = new_vae()
    latents = vae.encode(torch.zeros(2, 3, 32, 48)).latents
    assert latents.shape == (2, 16, 4, 6)
    assert vae.decode(latents).sample.shape == (2, 3, 32, 48)


@pytest.mark.parametrize("seed", [0, 1])
def test_five_convolutions_hold_any_kernel_of_eight_by_eight(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(CHANNELS, 3, PATCH, PATCH, generator=generator)
    bias, vae = torch.randn(CHANNELS, generator=generator), new_vae()
    set_encoder(vae, kernel, bias)
    x = random_pictures(2, seed)
    expected = F.conv2d(x, kernel, bias, stride=PATCH)
    found = vae.encode(2 * x - 1).latents
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_encoding_is_linear_whatever_the_weights() -> None:
    """E(a) - E(0) adds up, and is scaled as a is: no activation is left between the convolutions."""
    torch.manual_seed(0)
    vae = new_vae().double()

    def encode(x: Tensor) -> Tensor:
        return vae.encode(2 * x.double() - 1).latents

    a, b = random_pictures(2)
    a, b, nothing = a[None], b[None], torch.zeros(1, 3, 32, 48)
    with torch.no_grad():
        one, other, both, zero = encode(a), encode(b), encode(a + b), encode(nothing)
        torch.testing.assert_close(both - zero, (one - zero) + (other - zero))
        torch.testing.assert_close(encode(0.3 * a) - zero, 0.3 * (one - zero))
    assert (one - zero).abs().max() > 1e-3


def test_a_picture_over_grey_is_its_object_and_grey_times_what_shows_behind_it(encoder) -> None:
    """enc(rgb + (1 - alpha) g) = objects + g backdrops, for any kernel: what the prior's training counts on."""
    kernel, bias = encoder
    vae = new_vae()
    set_encoder(vae, kernel, bias)
    alpha = random_pictures(2, seed=1)[:, :1]
    rgb = random_pictures(2) * alpha
    objects = F.conv2d(rgb, kernel, bias, stride=PATCH)
    backdrops = F.conv2d((1 - alpha).expand(-1, 3, -1, -1), kernel, stride=PATCH)
    for grey in (0.0, 0.37, 1.0):
        latents = vae.encode(2 * (rgb + (1 - alpha) * grey) - 1).latents
        torch.testing.assert_close(latents, objects + grey * backdrops, atol=1e-5, rtol=1e-4)


def test_the_fit_is_the_principal_components_with_the_square_roots_of_their_deviations() -> None:
    """Patches of known covariance: three directions of standard deviation 4, 1 and 1/4 and nothing else but dust."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(192, 192, generator=generator, dtype=torch.float64))[0]
    deviations = torch.full((192,), 1e-3, dtype=torch.float64)
    deviations[:3] = torch.tensor([4, 1, 0.25], dtype=torch.float64)
    draws = torch.randn(40_000, 192, generator=generator, dtype=torch.float64) * deviations
    patches = (draws @ directions.mT + 0.5).reshape(100, 400, 192)
    images = F.fold(patches.mT, (160, 160), PATCH, stride=PATCH).float()
    kernel, bias = fit_encoder(images)
    assert kernel.shape == (16, 3, 8, 8) and kernel.dtype == bias.dtype == torch.float32
    rows = kernel.flatten(1).double()
    rows_unit = rows / rows.norm(dim=1, keepdim=True)
    for i in range(3):
        assert abs(rows_unit[i] @ directions[:, i]) > 0.999
    # The latents have mean 0, no correlation, and variances in the ratio of the deviations.
    latents = F.conv2d(images, kernel, bias, stride=PATCH).double().movedim(1, -1).reshape(-1, 16)
    torch.testing.assert_close(latents.mean(0), torch.zeros(16).double(), atol=1e-3, rtol=0)
    covariance = latents.mT @ latents / len(latents)
    variances = covariance.diagonal()
    torch.testing.assert_close(
        variances[:3] / variances[1], torch.tensor([4, 1, 0.25]).double(), atol=0, rtol=0.03
    )
    assert variances.mean().item() == pytest.approx(1, rel=0.01)
    assert (covariance - variances.diag()).abs().max() < 0.02


def test_the_fit_is_the_best_linear_one_and_repeats(pictures: Path, encoder) -> None:
    """No other 16 directions reconstruct the patches better: the error is the sum of the variances left out (Eckart-Young)."""
    rgba = np.concatenate([shard[:] for shard in data.open_shards(pictures)])
    images = torch.from_numpy(data.composite(rgba, np.random.default_rng(0)))
    patches = F.unfold(images, PATCH, stride=PATCH).movedim(1, -1).reshape(-1, 192).double()
    centerd = patches - patches.mean(0)
    latents = F.conv2d(images, *encoder, stride=PATCH).double().flatten(2).movedim(1, -1).reshape(-1, 16)
    solution = torch.linalg.lstsq(latents, centerd).solution
    error = (centerd - latents @ solution).square().sum()
    left_out = torch.linalg.svdvals(centerd)[16:].square().sum()
    assert error.item() == pytest.approx(left_out.item(), rel=1e-3)
    again = fit_encoder(images)
    assert torch.equal(again[0], encoder[0]) and torch.equal(again[1], encoder[1])


# Losses and data


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
    layers = np.zeros((1, 16, 16, data.LAYERS), dtype=np.uint8)
    layers[..., 4], layers[..., 5] = np.arange(16)[:, None] * 10, np.arange(16) * 10
    layers[..., 7] = 255
    ramp = data.Shard(layers, np.zeros((1, 4, 3), dtype=np.float32))
    crops = random_crops([ramp], 20, 8, np.random.default_rng(0))
    assert crops.shape == (20, 3, 8, 8) and crops.dtype == torch.float32
    rows, columns = ((crops[:, :2] + 1) / 2 * 25.5).unbind(1)
    top, left = rows[:, :1, :1], columns[:, :1, :1]
    torch.testing.assert_close(rows, top + torch.arange(8.0)[:, None].expand(20, 8, 8), atol=1e-3, rtol=0)
    torch.testing.assert_close(columns, left + torch.arange(8.0).expand(20, 8, 8), atol=1e-3, rtol=0)
    assert {round(v) for v in top.flatten().tolist()} <= set(range(9)) and top.std() > 1 and left.std() > 1
    assert torch.equal(crops, random_crops([ramp], 20, 8, np.random.default_rng(0)))


# Training


def test_the_decoder_learns_and_a_resumed_run_goes_on_from_its_checkpoint(
    pictures: Path, encoder, tmp_path: Path, clock: None
) -> None:
    checkpoint = tmp_path / "vae.pt"
    options = {"seed": 0, "batch": 4, "crop": 16}
    # One step, two readings of the clock.
    [first] = train_decoder(pictures, *encoder, checkpoint, seconds=1, **options)
    [later] = train_decoder(pictures, *encoder, checkpoint, seconds=60, **options)
    assert later["step"] > first["step"] + 40
    assert later["psnr"] > first["psnr"] + 2
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == later["step"]
    # The optimizer goes on too: its own count of steps is the checkpoint's.
    assert state["optimizer"]["state"][0]["step"] == later["step"]
    # Steps and time add up over both runs.
    assert later["step"] == pytest.approx(later["seconds"], abs=6)


def test_the_trained_model_is_loaded_frozen_with_the_encoder_it_was_given(
    pictures: Path, encoder, tmp_path: Path, clock: None
) -> None:
    options = {"seconds": 4, "seed": 0, "batch": 1, "crop": 16}
    list(train_decoder(pictures, *encoder, tmp_path / "vae.pt", **options))
    vae = load_trained(tmp_path / "vae.pt")
    assert not vae.training and not any(p.requires_grad for p in vae.parameters())
    saved = torch.load(tmp_path / "vae.pt", weights_only=True)["vae"]
    assert all(torch.equal(value, saved[name]) for name, value in vae.state_dict().items())
    fresh = new_vae()
    set_encoder(fresh, *encoder)
    for name, weight in fresh.encoder.state_dict().items():
        assert torch.equal(weight, vae.encoder.state_dict()[name]), name
    kernel, bias = encoder
    x = random_pictures(1)
    torch.testing.assert_close(
        vae.encode(2 * x - 1).latents, F.conv2d(x, kernel, bias, stride=PATCH), atol=1e-4, rtol=1e-4
    )
