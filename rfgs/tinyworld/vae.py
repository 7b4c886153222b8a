"""Training of the tiny autoencoder: an `AutoencoderKL` of SD3's shape (8x smaller, 16 channels) with very few channels inside.

Distillation goes through the encoder forward and backward in every step, so the encoder is kept as cheap as its
reconstruction allows; no attention, no quant convolutions (as in SD3).
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from rfgs.tinyworld.data import composite, open_images


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder: [B, 3, 8h, 8w] in [-1, 1] <-> [B, 16, h, w]."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def reconstruction_loss(images: Tensor, output: Tensor) -> Tensor:
    """Mean absolute error of pixels and of their horizontal and vertical differences, images [B, 3, H, W]: edges count."""
    loss = (images - output).abs().mean()
    for dim in (-1, -2):
        loss = loss + (images.diff(dim=dim) - output.diff(dim=dim)).abs().mean()
    return loss + 2 * (images - output).square().mean()


def psnr(images: Tensor, output: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB, for values in [-1, 1] (peak 2)."""
    error = (images - output.clamp(-1, 1)).square().mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / error)).mean())


def random_crops(rgba: list[np.ndarray], count: int, size: int, rng: np.random.Generator) -> Tensor:
    """[count, 3, size, size] in [-1, 1]: crops of random pictures over random backgrounds."""
    pictures = np.empty((count, size, size, 4), dtype=np.uint8)
    for i in range(count):
        shard = rgba[rng.integers(len(rgba))]
        top, left = rng.integers(0, shard.shape[1] - size + 1, 2)
        pictures[i] = shard[rng.integers(len(shard)), top : top + size, left : left + size]
    return torch.from_numpy(composite(pictures, rng)) * 2 - 1


def train_vae(
    data: Path,
    checkpoint: Path,
    *,
    seconds: float,
    seed: int,
    batch: int = 32,
    crop: int = 64,
    kl_weight: float = 3e-4,
) -> Iterator[dict]:
    """Train for `seconds` of wall time in all (over restarts), yielding metrics; resumes from `checkpoint`.

    The learning rate follows the time that has passed (warm-up, constant, linear decay to 0 over the last 40 %), so that the
    run ends well whatever else the machine is doing.
    """
    torch.manual_seed(seed)
    vae = new_vae()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=1e-4)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    images = open_images(data)
    test = random_crops(images[-1:], 32, images[-1].shape[1], np.random.default_rng(seed))
    vae = vae.to(memory_format=torch.channels_last)

    started = time.time() - spent
    while True:
        progress = (time.time() - started) / seconds
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, step / 100, max(0.0, (1 - progress) / 0.4))
        rng = np.random.default_rng([seed, step])
        batch_images = random_crops(images, batch, crop, rng).to(memory_format=torch.channels_last)
        posterior = vae.encode(batch_images).latent_dist
        output = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(batch_images, output)
        kl = posterior.kl().mean() / posterior.mean[0].numel()  # Nats per latent element.
        (loss + kl_weight * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0 or progress >= 1:
            with torch.no_grad():
                decoded = vae.decode(vae.encode(test).latent_dist.mode()).sample
            state = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step, "spent": time.time() - started}, checkpoint)
            yield {
                "step": step,
                "seconds": time.time() - started,
                "loss": loss.item(),
                "kl": kl.item(),
                "psnr": psnr(test, decoded),
            }
        if progress >= 1:
            return


def load_trained(checkpoint: Path) -> AutoencoderKL:
    """The autoencoder in `checkpoint`, for evaluation."""
    vae = new_vae()
    vae.load_state_dict(torch.load(checkpoint, weights_only=True)["vae"])
    return vae.eval().requires_grad_(False)
