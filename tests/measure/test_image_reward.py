"""The reward model built anew gives what its authors' package gives, on random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.measure.image_reward import ImageReward, load_image_reward

WIDTH, WORDS = 128, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cube", ",", ".", "on", "blue"]


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes as published, of a small model: 2 layers, pictures of 32 pixels, patches of 16."""

    def linear(name: str, outward: int, inward: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outward, inward), f"{name}.bias": (outward,)}

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}

    eye, text = "blip.visual_encoder", "blip.text_encoder"
    found: dict[str, tuple[int, ...]] = {f"{eye}.cls_token": (1, 1, WIDTH), f"{eye}.pos_embed": (1, 5, WIDTH)}
    found |= {f"{eye}.patch_embed.proj.weight": (WIDTH, 3, 16, 16), f"{eye}.patch_embed.proj.bias": (WIDTH,)}
    for layer in range(2):
        block = f"{eye}.blocks.{layer}"
        found |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
        found |= linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
        found |= linear(f"{block}.mlp.fc1", 256, WIDTH) | linear(f"{block}.mlp.fc2", WIDTH, 256)
    found |= norm(f"{eye}.norm")
    found |= {f"{text}.embeddings.word_embeddings.weight": (len(WORDS) + 2, WIDTH)}
    found |= {f"{text}.embeddings.position_embeddings.weight": (40, WIDTH)}
    found |= norm(f"{text}.embeddings.LayerNorm")
    for layer in range(2):
        block = f"{text}.encoder.layer.{layer}"
        for kind in ("attention", "crossattention"):
            for part in ("query", "key", "value"):
                found |= linear(f"{block}.{kind}.self.{part}", WIDTH, WIDTH)
            found |= linear(f"{block}.{kind}.output.dense", WIDTH, WIDTH)
            found |= norm(f"{block}.{kind}.output.LayerNorm")
        found |= linear(f"{block}.intermediate.dense", 256, WIDTH) | linear(
            f"{block}.output.dense", WIDTH, 256
        )
        found |= norm(f"{block}.output.LayerNorm")
    widths = (WIDTH, 1024, 128, 64, 16, 1)
    for number, inward, outward in zip((0, 2, 4, 6, 7), widths[:-1], widths[1:], strict=True):
        found |= linear(f"mlp.layers.{number}", outward, inward)
    return found


def random_weights() -> dict[str, Tensor]:
    generator = np.random.default_rng(0)
    found = {}
    for name, shape in shapes().items():
        values = generator.standard_normal(shape) * (0.1 if len(shape) > 1 else 0.05)
        values += name.endswith("weight") and len(shape) == 1  # Of norms.
        found[name] = torch.from_numpy(values).float()
    return found


def some_pictures() -> Tensor:
    generator = np.random.default_rng(1)
    rough = torch.from_numpy(generator.integers(0, 256, (3, 3, 8, 8))).float()
    before = torch.get_num_threads()
    # As when the rewards below were taken: which way a half is rounded depends on how the work is shared.
    torch.set_num_threads(2)
    try:
        smooth = torch.nn.functional.interpolate(rough, size=(96, 96), mode="bilinear")
    finally:
        torch.set_num_threads(before)
    return smooth.round() / 255


PROMPTS = ("A red cube.", "a red cube on a blue cube, " * 9)
"""The second is longer than what is read of it."""

PUBLISHED = ((2.092092, 0.39349, 1.754965), (1.033468, 0.248166, 1.405058))
"""Rewards of three pictures under each prompt, by image-reward 1.5 with timm 0.6.13, transformers 4.30.2 and torch 2.13: its
VisionTransformer, its BertModel, its MLP and its preparation of pictures."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    unused = {
        "blip.vision_proj.weight": torch.zeros(4, WIDTH),
        "blip.text_encoder.embeddings.position_ids": torch.arange(40)[None],
    }
    torch.save({**random_weights(), **unused}, tmp_path / "ImageReward.pt")
    return tmp_path


def test_rewards_are_those_of_the_authors_package(folder: Path) -> None:
    reward, name = load_image_reward(folder)
    assert name.startswith("ImageReward ") and reward.size == 32
    for prompt, expected in zip(PROMPTS, PUBLISHED, strict=True):
        torch.testing.assert_close(
            reward(some_pictures(), prompt), torch.tensor(expected), atol=1e-5, rtol=1e-5
        )


def test_batches_make_no_difference(folder: Path) -> None:
    reward = ImageReward(random_weights(), folder / "vocab.txt", batch=2)
    pictures = some_pictures()
    one_by_one = torch.cat([reward(picture[None], PROMPTS[0]) for picture in pictures])
    torch.testing.assert_close(reward(pictures, PROMPTS[0]), one_by_one, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="this system does not tell what is in memory"
)
def test_weights_are_let_go_once_they_are_used(folder: Path) -> None:
    def resident() -> int:
        """KB of the file that are in this process's memory."""
        lines, found, inside = Path("/proc/self/smaps").read_text().splitlines(), 0, False
        for line in lines:
            if "-" in line.split(" ", 1)[0]:
                inside = line.endswith(str(folder / "ImageReward.pt"))
            elif inside and line.startswith("Rss:"):
                found += int(line.split()[1])
        return found

    reward, _ = load_image_reward(folder)
    whole = (folder / "ImageReward.pt").stat().st_size / 1024
    before: list[int] = []
    let_go = reward._let_go
    reward._let_go = lambda: (before.append(resident()), let_go())  # type: ignore[method-assign, assignment]
    first = reward(some_pictures(), PROMPTS[0])
    assert resident() < 0.1 * whole < before[0] < 0.9 * whole, "only one half at a time"
    assert torch.equal(reward(some_pictures(), PROMPTS[0]), first)


def test_what_is_missing_or_damaged_is_told(folder: Path) -> None:
    damaged, other = folder / "damaged", folder / "other"
    for made in (damaged, other):
        made.mkdir()
        (made / "vocab.txt").write_text("[UNK]\n")
    (damaged / "ImageReward.pt").write_bytes(b"no weights")
    torch.save({"conv.weight": torch.zeros(3)}, other / "ImageReward.pt")
    for place, line in (
        (folder / "nowhere", "has no ImageReward.pt"),
        (damaged, "cannot be read; download it again"),
        (other, "holds another model's weights"),
    ):
        with pytest.raises(UserError, match=line):
            load_image_reward(place)
