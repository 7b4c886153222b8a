"""The tiny autoencoder: a diffusers `AutoencoderTiny` (8x smaller, 16 channels, as SD3's) whose encoder is linear.

Distillation goes through the encoder, forward and backward, in every step. A linear one costs next to nothing, hands the
prior's gradient to the pixels without distorting it, and encodes a picture over a background as the sum of the two. The
best linear one is known in closed form: the 16 principal components of 8x8 patches. `AutoencoderTiny` is the class of
TAESD; with no blocks in its encoder five convolutions are left, which hold those components exactly. The decoder is trained.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from rfgs.tinyworld.pictures import PATCH
from training.data import Shard, composite, open_shards

CHANNELS = 16


def new_vae() -> AutoencoderTiny:
    """An untrained autoencoder: [B, 3, 8h, 8w] in [-1, 1] <-> [B, 16, h, w]."""
    return AutoencoderTiny(
        encoder_block_out_channels=(48, 48, 48, 48),  # 48 numbers of a 4x4 patch have to pass.
        num_encoder_blocks=(0, 0, 0, 0),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_decoder_blocks=(3, 3, 2, 1),
        latent_channels=CHANNELS,
    )


def fit_encoder(images: Tensor) -> tuple[Tensor, Tensor]:
    """The linear encoder of pictures [B, 3, H, W] in [0, 1]: kernel [16, 3, 8, 8] and bias [16] of a convolution of stride 8.

    Principal components of all patches, largest first, with mean 0. A component of standard deviation s is scaled to
    sqrt(s): with plain components noise would drown all detail, with components of equal size it would drown nothing
    before everything. Then all are scaled by one number, so that their mean variance is 1.
    """
    patches = F.unfold(images, PATCH, stride=PATCH).movedim(1, -1).reshape(-1, 3 * PATCH**2).double()
    mean = patches.mean(dim=0)
    variances, vectors = torch.linalg.eigh((patches - mean).mT @ (patches - mean) / len(patches))
    variances, vectors = variances.flip(0)[:CHANNELS], vectors.flip(1)[:, :CHANNELS]
    rows = vectors.mT * (variances.sqrt().mean() * variances.sqrt()).rsqrt()[:, None]
    # The sign of an eigenvector is arbitrary: the first of its large entries is made positive, on every machine.
    large = (rows.abs() > 0.5 * rows.abs().amax(dim=1, keepdim=True)).double().argmax(dim=1)
    rows = rows * rows.gather(1, large[:, None]).sign()
    return rows.float().reshape(CHANNELS, 3, PATCH, PATCH), -(rows @ mean).float()


@torch.no_grad()
def set_encoder(vae: AutoencoderTiny, kernel: Tensor, bias: Tensor) -> None:
    """Put a linear encoder (see `fit_encoder`) into the five convolutions of `vae`.

    The first passes the picture on, the next two move 2x2 neighbors into channels, the fourth does so too and projects.
    """
    first, *halving, last = vae.encoder.layers
    for layer in (first, *halving, last):
        layer.weight.zero_()
    first.bias.zero_()
    color = torch.arange(3)
    first.weight[color, color, 1, 1] = 1
    # A kernel of 3 with stride 2 sees rows 2i - 1 to 2i + 1: its taps 1 and 2 are the block.
    for layer, channels in zip(halving[:2], (3, 12), strict=True):
        for dy in (0, 1):
            for dx in (0, 1):
                into = (2 * dy + dx) * channels + torch.arange(channels)
                layer.weight[into, torch.arange(channels), 1 + dy, 1 + dx] = 1
    # Channel (2 dy2 + dx2) 12 + (2 dy1 + dx1) 3 + color at 1/4 size holds row 2 dy2 + dy1, column 2 dx2 + dx1 of its patch.
    blocks = kernel.reshape(CHANNELS, 3, 2, 2, 2, 2, 2, 2)  # color, row bits 4 2 1, column bits 4 2 1
    blocks = blocks.permute(0, 3, 6, 4, 7, 1, 2, 5).reshape(CHANNELS, 48, 2, 2)
    halving[2].weight[:CHANNELS, :, 1:, 1:] = blocks
    channel = torch.arange(CHANNELS)
    last.weight[channel, channel, 1, 1] = 1
    last.bias.copy_(bias)


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


def random_crops(shards: list[Shard], count: int, size: int, rng: np.random.Generator) -> Tensor:
    """[count, 3, size, size] in [-1, 1]: crops of random pictures over random backgrounds."""
    pictures = np.empty((count, size, size, 4), dtype=np.uint8)
    for i in range(count):
        shard = shards[rng.integers(len(shards))]
        top, left = rng.integers(0, shard.layers.shape[1] - size + 1, 2)
        pictures[i] = shard[int(rng.integers(len(shard)))][top : top + size, left : left + size]
    return torch.from_numpy(composite(pictures, rng)) * 2 - 1


def train_decoder(
    data: Path,
    kernel: Tensor,
    bias: Tensor,
    checkpoint: Path,
    *,
    seconds: float,
    seed: int,
    batch: int = 12,
    crop: int = 64,
    noise: float = 0.05,
) -> Iterator[dict]:
    """Train the decoder of a linear encoder for `seconds` of wall time in all (over restarts), yielding metrics.

    Resumes from `checkpoint`. The decoder sees latents with `noise` added, so that it forgives a prior's errors. The learning
    rate follows the time that has passed (warm-up, constant, linear decay to 0 over the last 40 %), so that the run ends
    well whatever else the machine is doing.
    """
    torch.manual_seed(seed)
    vae = new_vae()
    set_encoder(vae, kernel, bias)
    vae.encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=1e-4)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    images = open_shards(data)
    test = random_crops(images[-1:], 32, images[-1].layers.shape[1], np.random.default_rng(seed))
    vae = vae.to(memory_format=torch.channels_last)

    started = time.time() - spent
    while True:
        progress = (time.time() - started) / seconds
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, step / 100, max(0.0, (1 - progress) / 0.4))
        rng = np.random.default_rng([seed, step])
        batch_images = random_crops(images, batch, crop, rng)
        latents = F.conv2d((batch_images + 1) / 2, kernel, bias, stride=PATCH)
        latents += noise * torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        loss = reconstruction_loss(
            batch_images, vae.decode(latents.to(memory_format=torch.channels_last)).sample
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0 or progress >= 1:
            with torch.no_grad():
                decoded = vae.decode(vae.encode(test).latents).sample
            state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "spent": time.time() - started}, checkpoint)
            yield {
                "step": step,
                "seconds": time.time() - started,
                "loss": loss.item(),
                "psnr": psnr(test, decoded),
            }
        if progress >= 1:
            return


def load_trained(checkpoint: Path) -> AutoencoderTiny:
    """The autoencoder in `checkpoint`, for evaluation."""
    vae = new_vae()
    vae.load_state_dict(torch.load(checkpoint, weights_only=True)["vae"])
    return vae.eval().requires_grad_(False)
