"""What the scorer is worth, measured on pictures that it never saw: its classifiers, the scores of the world's own renders
(the upper bound), of wrong prompts, and of degraded pictures and splats.

    python -m training.scorer_check --work FOLDER
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr
from torch import Tensor

from rfgs.render import render
from rfgs.render.cameras import sample_orbit
from rfgs.splats import Splats, ball
from rfgs.tinyworld.asset_views import asset_views
from rfgs.tinyworld.language import caption
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.prompts import PROMPT_SETS, held_out_scenes
from rfgs.tinyworld.scorer import Scorer, load_scorer, score_similarities, seen_from
from rfgs.tinyworld.scorer_labels import class_numbers
from rfgs.tinyworld.scorer_views import over_grey, world_views
from rfgs.tinyworld.tracer import render_scene
from training.scorer_data import SIZE, blur, load_pictures

LEVELS: dict[str, tuple[float, ...]] = {
    "blur": (0, 1, 2, 4, 8),  # Sigma, pixels of 64.
    "noise": (0, 0.1, 0.2, 0.4, 0.8),  # Standard deviation of the pixels.
    "shapes dropped": (0, 0.2, 0.4, 0.6, 0.8),  # Share of the primitives; of things that have 5 or more.
    "splats dropped": (0, 0.2, 0.4, 0.6, 0.8, 0.95),
    "splats moved": (0, 0.05, 0.1, 0.2, 0.4),  # Standard deviation of the centers, world units.
}


def rank_correlation(levels: tuple[float, ...], scores: list[float]) -> float:
    """Spearman's; 0 where all scores are equal."""
    return 0.0 if len(set(scores)) == 1 else float(spearmanr(levels, scores).statistic)


def classifier_figures(scorer: Scorer, folder: Path, seed: int) -> dict:
    """Accuracies in percent on the pictures of `folder` over greys, without any degradation.

    Pictures of what the scorer has no classes for are left out, and "left out" says so where there are any.
    "pair" is the share of pictures of two things side by side in which both are found, in whatever order: from behind and
    from a side nothing tells which is meant to be the left one.
    """
    rgba, scenes, views, directions = load_pictures(folder)
    unknown = [scorer.unknown(scene) for scene in scenes]
    known = [i for i, names in enumerate(unknown) if not names]
    rgba, scenes = rgba[known], [scenes[i] for i in known]
    views, directions = [views[i] for i in known], [directions[i] for i in known]
    grey = torch.rand(len(rgba), 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    logits = scorer.classify(over_grey(rgba.float() / 255, grey))
    rows = zip(scenes, views, directions, strict=True)
    right = torch.tensor([class_numbers(*row, labels=scorer.labels) for row in rows])
    guess = torch.stack([logits[name].argmax(dim=1) for name in scorer.labels], dim=1)
    names = list(scorer.labels)
    beside = torch.tensor([scene.relation == "next to" for scene in scenes])
    stacked = torch.tensor([scene.relation == "on" for scene in scenes])
    overhead = torch.tensor([view == "overhead view" for view in views])

    def percent(name: str, rows: Tensor) -> float:
        column = names.index(name)
        return round(100 * (guess[rows, column] == right[rows, column]).float().mean().item(), 2)

    everything = torch.ones(len(scenes), dtype=torch.bool)
    figures: dict = {"pictures": len(scenes)}
    figures |= left_out("pictures", unknown)
    for name in ("kind", "color", "finish"):
        figures[name] = {
            "one thing": percent(name, ~beside & ~stacked),
            "one thing, not from above": percent(name, ~beside & ~stacked & ~overhead),
            "on": percent(name, stacked),
            "next to": percent(name, beside),
        }
    for name in ("second_kind", "second_color"):
        figures[name] = {"on": percent(name, stacked), "next to": percent(name, beside)}
    for first, second in (("kind", "second_kind"), ("color", "second_color")):
        columns = [names.index(first), names.index(second)]
        found = (guess[:, columns].sort(dim=1).values == right[:, columns].sort(dim=1).values).all(dim=1)
        figures[f"{first} pair"] = round(100 * found[beside].float().mean().item(), 2)
    figures |= {name: percent(name, everything) for name in ("relation", "ground", "view")}
    one = ~beside & ~stacked
    figures["view, one thing"] = percent("view", one)
    sides = seen_from(logits, views)
    figures["side"] = round(100 * sides.float().mean().item(), 2)
    figures["side, one thing"] = round(100 * sides[one].float().mean().item(), 2)
    figures["side, one kind"] = {
        kind: round(100 * sides[shown].float().mean().item(), 1)
        for kind in scorer.labels["kind"]
        if (shown := one & torch.tensor([scene.things[0].kind == kind for scene in scenes])).any()
    }
    return figures


def fit_splats(primitives: np.ndarray, *, count: int = 3000, steps: int = 250, seed: int = 0) -> Splats:
    """Splats fitted to the world's own renders of primitives [P, 28], with random greys behind (mean absolute error, Adam)."""
    generator = torch.Generator().manual_seed(seed)
    splats = ball(count, 0.8, generator=generator, opacity=0.3).requires_grad_()
    rates = {"means": 0.01, "quats": 0.01, "log_scales": 0.02, "logit_opacities": 0.05, "sh0": 0.03}
    named = splats.parameters()
    optimizer = torch.optim.Adam([{"params": [named[name]], "lr": rate} for name, rate in rates.items()])
    cameras = sample_orbit(64, SIZE, SIZE, generator=generator)
    rgba = torch.from_numpy(
        render_scene(primitives, cameras.viewmats.numpy(), cameras.Ks.numpy(), SIZE, SIZE)
    )
    full = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        pick = torch.randperm(len(cameras), generator=generator)[:4]
        grey = torch.rand((), generator=generator)
        images = render(splats, cameras[pick], grey.expand(3)).rgb
        loss = (images - over_grey(rgba[pick], grey)).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group, rate in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = rate * (1 - step / steps) ** 0.5
        optimizer.step()
    return splats.detach()


def degradations(primitives: np.ndarray, images: Tensor, seed: int) -> dict[str, list[Tensor]]:
    """Pictures [V, 3, 64, 64] of one asset at each of LEVELS but those of splats; `images` are the undamaged ones."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator)
    views = {
        "blur": [blur(images, level) for level in LEVELS["blur"]],
        "noise": [(images + level * noise).clamp(0, 1) for level in LEVELS["noise"]],
    }
    if len(primitives) >= 5:
        order = rng.permutation(len(primitives))
        left = [np.sort(order[: round((1 - level) * len(order))]) for level in LEVELS["shapes dropped"]]
        views["shapes dropped"] = [images, *(world_views(primitives[rows]) for rows in left[1:])]
    return views


def damaged_splats(splats: Splats, seed: int) -> dict[str, list[Splats]]:
    """Fitted splats at each level of "splats dropped" and "splats moved"."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(len(splats), generator=generator)
    offsets = torch.randn(len(splats), 3, generator=generator)
    named = splats.parameters()
    return {
        "splats dropped": [splats.select(chance >= level) for level in LEVELS["splats dropped"]],
        "splats moved": [
            Splats(**{**named, "means": splats.means + level * offsets}) for level in LEVELS["splats moved"]
        ],
    }


def left_out(what: str, unknown: Iterable[list[str]]) -> dict[str, str]:
    """A line on how many of `what` a scorer cannot judge; `unknown` is what it does not know in each. None if that is nothing."""
    rows = [names for names in unknown if names]
    missing = ", ".join(sorted({name for names in rows for name in names}))
    return {"left out": f"{len(rows)} {what}: the scorer does not know {missing}"} if rows else {}


def asset_figures(
    scorer: Scorer, prompt_set: str, assets: int, fitted: int, rng: np.random.Generator
) -> dict:
    """Scores of the first `assets` prompts of a set among all of it, as the world renders them, and worse and worse.

    Of `fitted` of them splats are made and damaged too. Every number is a mean over assets; "wrong prompt" is the mean
    over all other prompts of the set. Prompts of what the scorer does not know are left out, and "left out" says so.
    """
    prompts = {caption(scene): scene for scene in held_out_scenes(prompt_set)}
    unknown = {
        prompt: scorer.unknown(scene) or scorer.unknown_words([prompt]) for prompt, scene in prompts.items()
    }
    names = [prompt for prompt in prompts if not unknown[prompt]]
    _, neighbors = asset_views(SIZE)
    rows: dict[str, list[list[float]]] = {}
    truth, wrong = [], []
    for own, prompt in enumerate(names[:assets]):
        seed = int(rng.integers(1 << 31))
        primitives = build(prompts[prompt], rng)
        images = world_views(primitives)
        similarities = scorer.similarity(images, names)
        result = score_similarities(similarities, own, neighbors)
        truth.append(
            [result.score, result.peak, 100 * result.top1, 100.0 * (result.rank == 1), result.similarity]
        )
        wrong += [score_similarities(similarities, i, neighbors).score for i in range(len(names)) if i != own]
        for name, views in degradations(primitives, images, seed).items():
            scores = [scorer.score_views(pictures, prompt, names, neighbors).score for pictures in views]
            rows.setdefault(name, []).append(scores)
        if own < fitted:
            for name, versions in damaged_splats(fit_splats(primitives), seed).items():
                scores = [scorer.score_asset(splats, prompt, names, size=SIZE).score for splats in versions]
                rows.setdefault(name, []).append(scores)
    keys = ("score", "peak", "views first %", "assets first %", "similarity")
    figures: dict = {
        "assets": assets,
        "prompts": len(names),
        **left_out("prompts", unknown.values()),
        "truth": dict(zip(keys, np.mean(truth, axis=0).round(3).tolist(), strict=True)),
        "wrong prompt": round(float(np.mean(wrong)), 2),
    }
    for name, table in rows.items():
        means = zip(LEVELS[name], np.mean(table, axis=0).round(2).tolist(), strict=True)
        figures[name] = {
            "assets": len(table),
            "score at": {f"{level:g}": mean for level, mean in means},
            "rank correlation": round(
                float(np.mean([rank_correlation(LEVELS[name], row) for row in table])), 3
            ),
        }
    return figures


def check(scorer: Scorer, folder: Path, seed: int, assets: int = 12, fitted: int = 2) -> dict:
    """All figures, for `training.json`; `folder` holds pictures of unseen draws."""
    rng = np.random.default_rng(seed)
    figures: dict = {"classifiers": classifier_figures(scorer, folder, seed)}
    figures |= {"assets": {name: asset_figures(scorer, name, assets, fitted, rng) for name in PROMPT_SETS}}
    return figures


@dataclass
class Options:
    work: Path
    """The folder that train_scorer worked in."""
    scorer: Path | None = None
    """Folder of the scorer; none means the one that ships."""
    seed: int = 1003
    """Of assets and greys."""
    assets: int = 12
    """Assets of each prompt set."""
    fitted: int = 2
    """How many of them are made of splats too."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    scorer = load_scorer(options.scorer)
    found = check(scorer, options.work / "check", options.seed, options.assets, options.fitted)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
