"""What is measured of a prior's samples: how near they are to the truth, and what the scorer sees in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rfgs.priors import Prior
from rfgs.render.cameras import DEFAULT_FOV, orbit, view_words
from rfgs.tinyworld.picture_truth import measure_picture
from rfgs.tinyworld.pictures import draw_view
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.scorer import BACKGROUND, Scorer, rank, seen_from
from rfgs.tinyworld.scorer_labels import LABELS, class_numbers
from rfgs.tinyworld.tracer import render_scene

VIEWS = LABELS["view"]


def truth_figures(images: Sequence[Tensor], prompts: Sequence[str]) -> dict[str, float]:
    """The truth (`rfgs.tinyworld.picture_truth`), means over pictures: "iou" in percent, "psnr" in dB, and of prompts that
    leave colors open "decisiveness" in percent.

    Args:
        images: of each prompt the same number of pictures of each of VIEWS in order, [K * 5, 3, H, W].
    """
    found = [
        measure_picture(picture, f"{prompt}, {view}").figures()
        for prompt, pictures in zip(prompts, images, strict=True)
        for picture, view in zip(pictures, len(pictures) // len(VIEWS) * VIEWS, strict=True)
    ]
    units = {"iou": 100, "psnr": 1, "edges": 100, "decisiveness": 100}
    values = {name: [unit * one[name] for one in found if name in one] for name, unit in units.items()}
    return {name: round(float(np.mean(numbers)), 2) for name, numbers in values.items() if numbers}


def figures(
    scorer: Scorer,
    images: Sequence[Tensor],
    scenes: Sequence[Scene],
    prompts: Sequence[str],
    asked: Sequence[str],
) -> dict[str, float]:
    """Shares in percent of the pictures in which the scorer finds what they were to show.

    Args:
        images: of each scene the same number of pictures of each of VIEWS in order, [K * 5, 3, H, W].
        prompts: of the whole set, the first being those of `scenes`.
        asked: names of classifiers.

    Returns:
        Each of `asked`; "mean" of them; "all", those with nothing wrong; "side", the view give or take 15 degrees
        (`rfgs.tinyworld.scorer.seen_from`); "top1", those whose own prompt, without a view, fits best of `prompts`; and
        of pairs "kinds" and "colors", those with the right two in whatever order, since
        from behind and from a side nothing tells which is meant to be the left one.
    """
    views = [view for pictures in images for view in len(pictures) // len(VIEWS) * VIEWS]
    owner = torch.tensor([i for i, pictures in enumerate(images) for _ in range(len(pictures))])
    right = torch.tensor(
        [class_numbers(scenes[i], view, labels=scorer.labels) for i, view in zip(owner, views, strict=True)]
    )
    all_images = torch.cat(list(images))
    logits = scorer.classify(all_images)
    names = list(LABELS)
    guess = torch.stack([logits[name].argmax(dim=1) for name in names], dim=1)
    columns = [names.index(name) for name in asked]
    found = guess[:, columns] == right[:, columns]

    def percent(hits: Tensor) -> float:
        return round(100 * hits.float().mean().item(), 2)

    result = {name: percent(found[:, i]) for i, name in enumerate(asked)}
    result |= {
        "mean": percent(found),
        "all": percent(found.all(dim=1)),
        "side": percent(seen_from(logits, views)),
    }
    if "second_kind" in asked:
        for first, second in (("kind", "second_kind"), ("color", "second_color")):
            pair = [names.index(first), names.index(second)]
            same = guess[:, pair].sort(dim=1).values == right[:, pair].sort(dim=1).values
            result[f"{first}s"] = percent(same.all(dim=1))
    cosines = scorer.similarity(all_images, prompts)
    own_rank = torch.cat([rank(cosines[i : i + 1], int(own)) for i, own in enumerate(owner)])
    return {**result, "top1": percent(own_rank == 1)}


def world_pictures(scene: Scene, size: int, rng: np.random.Generator) -> Tensor:
    """The world's own pictures of a scene, one of each of VIEWS from a random place of that name: [5, 3, size, size]."""
    pictures = []
    for wanted in VIEWS:
        azimuth, elevation, distance = draw_view(rng)
        while view_words(azimuth, elevation)[0] != wanted:
            azimuth, elevation, distance = draw_view(rng)
        camera = orbit(azimuth, elevation, distance, DEFAULT_FOV, size, size)
        rgba = render_scene(build(scene, rng), camera.viewmats.numpy(), camera.Ks.numpy(), size, size)
        picture = torch.as_tensor(rgba[0]).permute(2, 0, 1)
        pictures.append(picture[:3] + (1 - picture[3:]) * BACKGROUND)
    return torch.stack(pictures)


def sample_views(
    prior: Prior, prompt: str, each: int, steps: int, scale: float, seed: Sequence[int]
) -> Tensor:
    """`each` samples of a prompt with each of VIEWS, [each * 5, 3, H, W]; the same seed gives the same noise at all scales."""
    texts = each * [f"{prompt}, {view}" for view in VIEWS]
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    with torch.no_grad():
        return prior.sample(
            prior.embed(texts),
            prior.embed([""] * len(texts)),
            steps=steps,
            guidance_scale=scale,
            generator=generator,
        ).cpu()
