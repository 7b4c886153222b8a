"""Makes `assets/scorer` from nothing: `python -m training.train_scorer --work FOLDER --target assets/scorer`.

    data      render pictures for training and for measuring    (shards; resumes)
    train     contrastive loss and classifiers together          (checkpoint; resumes)
    export    weights in float16, `config.json`, and what `training.scorer_check` measures in `training.json`

Every stage skips what is done, so an interrupted run goes on with the same command.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.language import caption, parse, vocabulary
from rfgs.tinyworld.scenes import COLORS, FINISHES, GROUNDS, RELATIONS, Scene
from rfgs.tinyworld.scorer import Scorer, word_ids
from rfgs.tinyworld.scorer_labels import LABELS, class_numbers
from rfgs.tinyworld.scorer_net import ScorerNet
from training.scorer_data import degrade, load_pictures, render_pictures

NEGATIVES = 2
"""Captions of almost the right scene that each picture brings, beside its own."""


def almost(scene: Scene, rng: np.random.Generator) -> Scene:
    """Another scene that differs in one respect: a color, kind or finish, who is who, the relation or the ground."""

    def other(options: tuple[str | None, ...], now: str | None) -> str:
        left = [option for option in options if option != now]
        return left[rng.integers(len(left))]  # type: ignore[return-value]

    things = list(scene.things)
    change = rng.choice(["color", "color", "kind", "finish", "rest", "rest"])
    if change == "rest" and len(things) == 2:
        first, second = things
        which = rng.integers(4)
        if which == 0:
            return replace(scene, relation=other(RELATIONS, scene.relation))
        if which == 1:
            things = [second, first]
        elif which == 2:
            things = [replace(first, color=second.color), replace(second, color=first.color)]
        else:
            things = [replace(first, kind=second.kind), replace(second, kind=first.kind)]
        if tuple(things) != scene.things:
            return replace(scene, things=tuple(things))
    elif change == "rest":
        return replace(scene, ground=other((None, *GROUNDS), scene.ground))
    place = rng.integers(len(things))
    thing = things[place]
    if change in ("kind", "rest"):
        things[place] = replace(thing, kind=other(tuple(KINDS), thing.kind))
    elif change == "finish":
        things[place] = replace(thing, finish=other(tuple(FINISHES), thing.finish))
    else:
        things[place] = replace(thing, color=other(tuple(COLORS), thing.color))
    return replace(scene, things=tuple(things))


def draw_texts(scenes: list[Scene], views: list[str], rng: np.random.Generator) -> tuple[list[str], Tensor]:
    """A caption of each of B scenes, then NEGATIVES of almost it, half of them with view words; and which fit which pictures.

    Returns:
        (1 + NEGATIVES) B texts, and bools [B, (1 + NEGATIVES) B]: true where the caption may mean the picture's scene ("a
        cat" means an orange one and a grey one) and names no view or the right one.
    """
    words = LABELS["view"]
    told: list[tuple[Scene, str]] = []
    for scene, view in zip(scenes, views, strict=True):
        told.append((scene, view if rng.random() < 0.5 else ""))
    for scene, view in zip(scenes, views, strict=True):
        for _ in range(NEGATIVES):
            if rng.random() < 0.2:
                told.append((scene, words[rng.integers(len(words))]))
            else:
                told.append((almost(scene, rng), view if rng.random() < 0.5 else ""))
    texts = [caption(scene, rng) for scene, _ in told]
    means = [parse(text) for text in texts]
    allowed = np.array([[meaning.allows(scene) for meaning in means] for scene in scenes])
    said = np.array([words.index(view) if view else -1 for _, view in told])
    seen = np.array([words.index(view) for view in views])
    fits = allowed & ((said == -1) | (said == seen[:, None]))
    texts = [f"{text}, {view}" if view else text for text, (_, view) in zip(texts, told, strict=True)]
    return texts, torch.from_numpy(fits)


def contrastive_loss(pictures: Tensor, texts: Tensor, fits: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy (Radford et al. 2021, figure 3) where several may be right: they share the target.

    Args:
        pictures: unit vectors [B, C].
        texts: unit vectors [T, C], of which the first B are the pictures' own; the others serve as negatives only.
        fits: bools [B, T].
        scale: of the logits.
    """
    logits = scale * pictures @ texts.T
    own = fits[:, : len(pictures)].float()
    target = fits / fits.sum(dim=1, keepdim=True)
    to_text = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    target = own / own.sum(dim=0, keepdim=True)
    to_picture = -(target * logits[:, : len(pictures)].log_softmax(dim=0)).sum(dim=0).mean()
    return (to_text + to_picture) / 2


def losses(
    net: ScorerNet, images: Tensor, ids: Tensor, fits: Tensor, classes: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole loss of a batch and its parts; classes [B, len(LABELS)]."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = net.image(images)
        logits = {name: head(features) for name, head in net.classifiers.items()}
        pictures = net.embed_features(features)
    texts = net.embed_words(ids)  # In float32: attention over so few words is slower in bfloat16.
    parts = {"contrastive": contrastive_loss(pictures, texts, fits, net.log_scale.clamp(max=4.0).exp())}
    for column, name in enumerate(LABELS):
        right = classes[:, column]
        parts[name] = (
            F.cross_entropy(logits[name].float(), right) if (right >= 0).any() else right.sum() * 0.0
        )
    weighted = [parts[name] * (1.0 if name.endswith("kind") else 0.5) for name in LABELS]
    return parts["contrastive"] + torch.stack(weighted).sum(), parts


def train(
    folder: Path,
    checkpoint: Path,
    *,
    steps: int,
    seed: int,
    batch: int = 96,
    rate: float = 2.5e-3,
    save_every: int = 50,
) -> Iterator[dict]:
    """Train for `steps` in all (over restarts), yielding metrics at every checkpoint; resumes from `checkpoint`.

    Warm-up over 60 steps, then the rate falls linearly to 0 over the last 70 %. Weights are averaged (EMA); the average
    ships.
    """
    torch.manual_seed(seed)
    rgba, scenes, views, directions = load_pictures(folder)
    classes = torch.tensor([class_numbers(*row) for row in zip(scenes, views, directions, strict=True)])
    words = vocabulary()
    net, average = new_net(), new_net()
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.03)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    began, seen = time.process_time() - spent, []
    while step < steps:
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 60, (1 - step / steps) / 0.7)
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        pick = torch.from_numpy(rng.choice(len(rgba), batch, replace=len(rgba) < batch))
        texts, fits = draw_texts([scenes[i] for i in pick], [views[i] for i in pick], rng)
        images = degrade(rgba[pick], generator)
        loss, parts = losses(net, images, word_ids(texts, words), fits, classes[pick])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        follow(average, net, min(0.998, (1 + step) / (10 + step)))
        step += 1
        seen.append([part.item() for part in parts.values()])
        if step % save_every == 0 or step == steps:
            spent = time.process_time() - began
            state = {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save({**state, "step": step, "spent": spent}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            means = np.mean(seen, axis=0).round(4).tolist()
            yield {"step": step, "core_seconds": round(spent), **dict(zip(parts, means, strict=True))}
            seen = []


@torch.no_grad()
def follow(average: ScorerNet, net: ScorerNet, decay: float) -> None:
    """Move `average` towards `net`: its weights and the statistics of its normalizations."""
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)


def new_net() -> ScorerNet:
    """An untrained network for the world's words and LABELS."""
    return ScorerNet(len(vocabulary()), {name: len(classes) for name, classes in LABELS.items()})


def export(checkpoint: Path, target: Path) -> Scorer:
    """Write the averaged weights as `model.safetensors` (float16) and `config.json`; returns what was written, loaded."""
    state = torch.load(checkpoint, weights_only=True)["average"]
    target.mkdir(parents=True, exist_ok=True)
    halves = {
        name: tensor.half().contiguous() for name, tensor in state.items() if tensor.is_floating_point()
    }
    save_file(halves, target / "model.safetensors")
    config = {"words": vocabulary(), "labels": {name: list(classes) for name, classes in LABELS.items()}}
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return Scorer.load(target)


@dataclass
class Options:
    work: Path
    """Folder for pictures and checkpoints, about 1.5 GB."""
    target: Path | None = None
    """Folder of the model to write; none stops after the training."""
    images: int = 120_000
    """Pictures to render for the training."""
    check_images: int = 4_000
    """Pictures to check it on."""
    steps: int = 8_500
    """Steps of the training."""
    batch: int = 96
    """Pictures a step."""
    seed: int = 1001
    """Not that of the priors' pictures."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    options.work.mkdir(parents=True, exist_ok=True)
    for folder, count, seed in (
        ("train", options.images, options.seed),
        ("check", options.check_images, options.seed + 1),
    ):
        for done in render_pictures(options.work / folder, count, seed):
            if done % 5000 == 0:
                print(f"{folder} {done}/{count}", flush=True)
    checkpoint = options.work / "scorer.pt"
    with (options.work / "scorer.jsonl").open("a") as file:
        for event in train(
            options.work / "train", checkpoint, steps=options.steps, seed=options.seed, batch=options.batch
        ):
            file.write(json.dumps(event) + "\n")
            file.flush()
            print(json.dumps(event), flush=True)
    if options.target:
        from training.scorer_check import check

        state = torch.load(checkpoint, weights_only=True)
        arguments = {
            name: str(value) for name, value in vars(options).items() if name not in ("work", "target")
        }
        training = {
            "command": "python -m training.train_scorer --work WORK --target assets/scorer",
            "arguments": arguments,
            "steps": state["step"],
            "pictures_seen": state["step"] * options.batch,
            "core_minutes": round(state["spent"] / 60, 1),
            **check(export(checkpoint, options.target), options.work / "check", options.seed + 2),
        }
        (options.target / "training.json").write_text(json.dumps(training, indent=1) + "\n")
        print(json.dumps(training, indent=1))


if __name__ == "__main__":
    main()
